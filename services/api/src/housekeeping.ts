import { messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import { automaticRules, markRemoved, removeMarkedFiles } from "./registry/apply-retention.ts";
import type { Database } from "./store/database.ts";
import { ObservationStore } from "./store/observation-store.ts";
import { WebhookStore } from "./store/webhook-store.ts";
import { WriteUnit } from "./store/write-unit.ts";

const hourMs = 3_600_000;
/** What was sent to webhooks is kept for 30 days, reported answers for 90. */
const deliveriesKeptMs = 30 * 24 * hourMs;
const observationsKeptMs = 90 * 24 * hourMs;

export interface HousekeepingOptions {
  readonly database: Database;
  readonly storage: ObjectStorage;
  readonly logger: Logger;
}

/** Once an hour takes away what nobody needs any more. Several servers may do so at a time: each thing is gone once. */
export class Housekeeping {
  readonly #options: HousekeepingOptions;
  #timer: NodeJS.Timeout | null = null;
  #tidying: Promise<void> = Promise.resolve();

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#tidying = this.#tidying.then(async () => await this.tidy(new Date()));
    }, hourMs);
  }

  async close(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#tidying;
  }

  /** One round, as of a time. What fails is left to the next round, and the rest is done all the same. */
  async tidy(now: Date): Promise<void> {
    const { database } = this.#options;
    const before = (keptMs: number): Date => new Date(now.getTime() - keptMs);
    await this.#try("idempotency keys", async () => await new WriteUnit(database).forgetOldKeys(now));
    await this.#try(
      "webhook deliveries",
      async () => await new WebhookStore(database).forgetOver(before(deliveriesKeptMs)),
    );
    await this.#try(
      "reported answers",
      async () => await new ObservationStore(database).forgetOlder(before(observationsKeptMs)),
    );
    for (const name of (await this.#try("retention rules", async () => await automaticRules(database))) ?? [])
      await this.#try(`files of ${name}`, async () => await this.#applyRetention(name, now));
  }

  async #applyRetention(name: string, now: Date): Promise<void> {
    const { database, storage } = this.#options;
    await database.transaction(async (tx) => await markRemoved(tx, { name, actor: "drydock", now }));
    await removeMarkedFiles(database, storage, name);
  }

  async #try<Result>(what: string, work: () => Promise<Result>): Promise<Result | null> {
    try {
      return await work();
    } catch (error) {
      this.#options.logger.warn({ what, error: messageOf(error) }, "what is old stays for now");
      return null;
    }
  }
}
