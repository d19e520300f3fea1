import { messageOf, type Logger, type SecretBox } from "@drydock/kit";
import type { Database } from "../store/database.ts";
import { WebhookStore, type DeliveryRow, type WebhookRow } from "../store/webhook-store.ts";
import { sendWebhook, type SendOutcome } from "./send-webhook.ts";
import type { WebhookTargets } from "./webhook-targets.ts";

export interface WebhookTiming {
  /** Pause between looks at what is due. */
  readonly pollMs: number;
  /** How long a receiver may take to answer. */
  readonly timeoutMs: number;
  /** Pauses before each try after the first; with the last of them a delivery is given up. */
  readonly retryDelaysMs: readonly number[];
}

const defaultTiming: WebhookTiming = {
  pollMs: 1_000,
  timeoutMs: 10_000,
  // 5 s, 30 s, 2 min, 15 min, 1 h, 4 h, 12 h: a receiver may be away for most of a day.
  retryDelaysMs: [5, 30, 120, 900, 3_600, 14_400, 43_200].map((seconds) => seconds * 1000),
};

/** Deliveries in a row that are given up before a webhook is disabled. */
export const failuresToDisable = 5;
/** To one webhook. */
const sentAtOnce = 4;
const gone = 410;

export interface WebhookLoopOptions {
  readonly database: Database;
  readonly logger: Logger;
  readonly targets: WebhookTargets;
  /** Opens the secrets that sign. */
  readonly secrets: SecretBox;
  readonly timing?: WebhookTiming | undefined;
}

/**
 * Sends what is due, until each receiver has taken it or the tries are used up. At least once: a server that dies between sending and
 * noting sends again, under the same id. The order is not promised.
 */
export class WebhookLoop {
  readonly #options: WebhookLoopOptions;
  readonly #timing: WebhookTiming;
  readonly #closing = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  /** What is being sent, by webhook: one that answers slowly, or never, keeps nobody else waiting. */
  readonly #sending = new Map<string, Promise<void>>();

  constructor(options: WebhookLoopOptions) {
    this.#options = options;
    this.#timing = options.timing ?? defaultTiming;
  }

  start(): void {
    this.#looking = this.#look().finally(() => {
      if (!this.#closing.signal.aborted) this.#timer = setTimeout(() => this.start(), this.#timing.pollMs);
    });
  }

  async close(): Promise<void> {
    this.#closing.abort();
    clearTimeout(this.#timer);
    await this.#looking;
    await Promise.all(this.#sending.values());
  }

  /** Tries all that is due now. */
  async sendDue(): Promise<void> {
    await this.#look();
    await Promise.all(this.#sending.values());
  }

  /** Begins to send to every webhook for which something is due, unless that goes on already. */
  async #look(): Promise<void> {
    const { database, logger } = this.#options;
    try {
      for (const id of await new WebhookStore(database).withDue())
        if (!this.#sending.has(id) && !this.#closing.signal.aborted)
          this.#sending.set(
            id,
            this.#sendAll(id).finally(() => this.#sending.delete(id)),
          );
    } catch (error) {
      logger.warn({ error: messageOf(error) }, "webhooks wait");
    }
  }

  async #sendAll(webhookId: string): Promise<void> {
    const { database, logger } = this.#options;
    const leaseMs = 3 * this.#timing.timeoutMs;
    try {
      while (!this.#closing.signal.aborted) {
        const due = await new WebhookStore(database).claimDue(webhookId, sentAtOnce, leaseMs);
        if (due.length === 0) return;
        const sent = await Promise.allSettled(due.map(async (delivery) => await this.#send(delivery)));
        for (const each of sent) if (each.status === "rejected") throw each.reason;
      }
    } catch (error) {
      // Deleted since, or the database is away: what is still due is looked for again.
      logger.warn({ webhook: webhookId, error: messageOf(error) }, "a webhook's deliveries wait");
    }
  }

  async #send(delivery: DeliveryRow): Promise<void> {
    const webhook = await new WebhookStore(this.#options.database).get(delivery.webhookId);
    const outcome = await this.#try(webhook, delivery);
    // Cut off because this server closes: another sends it when the lease is over.
    if (outcome.status === null && this.#closing.signal.aborted) return;
    await this.#note(delivery, outcome);
  }

  async #try(webhook: WebhookRow, { id, payload }: DeliveryRow): Promise<SendOutcome> {
    const { secrets, targets } = this.#options;
    try {
      const url = new URL(webhook.url);
      const signal = AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#timing.timeoutMs)]);
      const signing = [webhook.secret, ...previousOf(webhook)].map((sealed) => secrets.open(sealed));
      return await sendWebhook({ id, url, payload, secrets: signing, agent: targets.agentFor(url), signal });
    } catch (error) {
      return { status: null, error: messageOf(error) };
    }
  }

  async #note(delivery: DeliveryRow, { status, error }: SendOutcome): Promise<void> {
    await this.#options.database.transaction(async (tx) => {
      const store = new WebhookStore(tx);
      const webhook = await store.lock(delivery.webhookId);
      if (error === null) {
        if (await store.noteTry(delivery, { state: "delivered", status, error })) await store.countFailures(webhook, 0);
        return;
      }
      const pauseMs = status === gone ? undefined : this.#timing.retryDelaysMs[delivery.tries];
      if (pauseMs !== undefined) {
        await store.noteTry(delivery, { status, error, dueAt: new Date(Date.now() + pauseMs) });
        return;
      }
      if (!(await store.noteTry(delivery, { state: "failed", status, error }))) return;
      const failures = webhook.failuresInRow + 1;
      await store.countFailures(webhook, failures);
      if (status === gone) return await store.disable(webhook, "the receiver answered 410 Gone");
      if (failures >= failuresToDisable)
        await store.disable(webhook, `${failures} deliveries in a row were given up; the last: ${error}`);
    });
  }
}

function previousOf({ previousSecret, previousUntil }: WebhookRow): string[] {
  return previousSecret !== null && previousUntil !== null && previousUntil > new Date() ? [previousSecret] : [];
}
