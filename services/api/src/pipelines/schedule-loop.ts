import { messageOf, type Logger } from "@drydock/kit";
import { dueTimes } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { PipelineStore } from "../store/pipeline-store.ts";
import { firePipelineTrigger } from "./fire-trigger.ts";

const lookMs = 5000;
/** A time that is no later than this counts as on time: a look may take long when the database is busy. */
const graceMs = 60_000;

export interface ScheduleOptions {
  readonly database: Database;
  readonly logger: Logger;
  /** Called after runs were started. */
  readonly started: () => void;
}

/**
 * Starts what schedules ask for. Up to when each pipeline was looked at is in its row, which is locked meanwhile: of several api
 * servers one starts a run, and what fell due while none was there is caught up as the pipeline says.
 */
export class ScheduleLoop {
  readonly #options: ScheduleOptions;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();

  constructor(options: ScheduleOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => {
      this.#looking = this.#looking.then(async () => await this.look(new Date()));
    }, lookMs);
  }

  async close(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer);
    await this.#looking;
  }

  /** One look at every pipeline, as of a time. */
  async look(now: Date): Promise<void> {
    const { database, logger, started } = this.#options;
    try {
      const pipelines = await new PipelineStore(database).all();
      for (const { name, spec } of pipelines)
        if (spec.triggers.some(({ type }) => type === "cron")) await this.#lookAt(name, now);
      if (pipelines.length > 0) started();
    } catch (error) {
      logger.warn({ error: messageOf(error) }, "schedules wait");
    }
  }

  async #lookAt(name: string, now: Date): Promise<void> {
    await this.#options.database.transaction(async (tx) => {
      const store = new PipelineStore(tx);
      const pipeline = await store.lock(name);
      const since = pipeline.scheduledUntil ?? pipeline.createdAt;
      if (now <= since) return;
      await store.change(pipeline, { scheduledUntil: now });
      if (pipeline.state === "paused") return;
      for (const time of dueTimes(pipeline.spec, since, now, graceMs))
        await firePipelineTrigger(tx, name, {
          key: `cron/${time.toISOString()}`,
          trigger: { type: "cron", detail: `its schedule, at ${time.toISOString()}` },
          actor: "drydock",
          now,
        });
    });
  }
}
