import { setTimeout as delay } from "node:timers/promises";
import type { LiveWorker, Site } from "./site.ts";

/** Two attempts of one run that had a worker at the same moment. */
export interface DoubleLaunch {
  readonly runId: string;
  readonly epochs: readonly number[];
}

const lookMs = 250;

/** Looks at the workers again and again, from start to stop. */
export class WorkerWatch {
  readonly #site: Pick<Site, "liveWorkers">;
  readonly #isFenced: (worker: LiveWorker) => boolean;
  readonly #doubles: DoubleLaunch[] = [];
  readonly #seen = new Map<string, Set<number>>();
  /** Runs with a worker, at each look. */
  readonly #looks: ReadonlySet<string>[] = [];
  #isStopped = false;
  #watching: Promise<void> = Promise.resolve();

  /** @param isFenced  true for a worker that may live beside its successor: it is out of everybody's reach, and nobody listens to it */
  constructor(site: Pick<Site, "liveWorkers">, isFenced: (worker: LiveWorker) => boolean = () => false) {
    this.#site = site;
    this.#isFenced = isFenced;
  }

  start(): void {
    this.#watching = this.#watch();
  }

  async stop(): Promise<{ readonly looks: number; readonly doubles: readonly DoubleLaunch[] }> {
    this.#isStopped = true;
    await this.#watching;
    return { looks: this.#looks.length, doubles: this.#doubles };
  }

  /** Epochs of a run of which a worker was seen. */
  epochsOf(runId: string): number[] {
    return [...(this.#seen.get(runId) ?? [])].toSorted((a, b) => a - b);
  }

  /** How many of these runs had a worker at the same moment, at the most. */
  mostAtOnce(runIds: readonly string[]): number {
    return Math.max(0, ...this.#looks.map((alive) => runIds.filter((id) => alive.has(id)).length));
  }

  async #watch(): Promise<void> {
    while (!this.#isStopped) {
      const alive = new Map<string, Set<number>>();
      for (const worker of await this.#site.liveWorkers()) {
        note(this.#seen, worker);
        if (!this.#isFenced(worker)) note(alive, worker);
      }
      for (const [runId, epochs] of alive) if (epochs.size > 1) this.#doubles.push({ runId, epochs: [...epochs] });
      this.#looks.push(new Set(alive.keys()));
      await delay(lookMs);
    }
  }
}

function note(byRun: Map<string, Set<number>>, { runId, epoch }: LiveWorker): void {
  byRun.set(runId, (byRun.get(runId) ?? new Set()).add(epoch));
}
