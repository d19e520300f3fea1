import { messageOf, type Logger } from "@drydock/kit";
import type { RunTransition } from "@drydock/spec";
import type { InternalApi } from "../internal-api.ts";

/**
 * Tells the api of reasons to wait, one after the other, without holding up whoever waits. What comes after them must wait
 * until they are told, or an old "waits" would arrive last and stand for what the run does.
 */
export class OrderedTells {
  readonly #api: Pick<InternalApi, "transition">;
  readonly #runId: string;
  readonly #logger: Logger;
  #last: Promise<void> = Promise.resolve();

  constructor(api: Pick<InternalApi, "transition">, runId: string, logger: Logger) {
    this.#api = api;
    this.#runId = runId;
    this.#logger = logger;
  }

  tell(transition: RunTransition): void {
    this.#last = this.#last
      .then(async () => await this.#api.transition(this.#runId, transition))
      .catch((error: unknown) =>
        this.#logger.warn({ runId: this.#runId, error: messageOf(error) }, "reason to wait is not told"),
      );
  }

  /** Resolves when all that was told until now has arrived, or is given up. */
  async settled(): Promise<void> {
    await this.#last;
  }
}
