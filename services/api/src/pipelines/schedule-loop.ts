import { messageOf, type Logger } from "@drydock/kit";
import { dueTimes, runOf } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { PipelineStore, type PipelineRow } from "../store/pipeline-store.ts";
import { firePipelineTrigger, type Firing } from "./fire-trigger.ts";
import { metricDrop, type MetricDropSources } from "./metric-drop.ts";

const lookMs = 5000;
/** A time that is no later than this counts as on time: a look may take long when the database is busy. */
const graceMs = 60_000;
const rereadMs = 60_000;

export interface ScheduleOptions extends MetricDropSources {
  readonly database: Database;
  readonly logger: Logger;
  /** Called after runs were started. */
  readonly started: () => void;
}

/**
 * Starts what schedules and live scores ask for. Up to when each pipeline was looked at is in its row, which is locked meanwhile: of several api
 * servers one starts a run, and what fell due while none was there is caught up as the pipeline says.
 */
export class ScheduleLoop {
  readonly #options: ScheduleOptions;
  #timer: NodeJS.Timeout | null = null;
  #looking: Promise<void> = Promise.resolve();
  /** Of each pipeline, what its metric triggers were held against last. */
  readonly #seen = new Map<string, string>();

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
      for (const pipeline of pipelines) await this.#lookAtOne(pipeline, now);
      if (pipelines.length > 0) started();
    } catch (error) {
      logger.warn({ error: messageOf(error) }, "schedules wait");
    }
  }

  /** What keeps one from its look does not keep those after it. */
  async #lookAtOne(pipeline: PipelineRow, now: Date): Promise<void> {
    try {
      if (pipeline.spec.triggers.some(({ type }) => type === "cron")) await this.#lookAt(pipeline.name, now);
      if (pipeline.state === "enabled") await this.#lookAtMetrics(pipeline, now);
    } catch (error) {
      this.#options.logger.warn({ pipeline: pipeline.name, error: messageOf(error) }, "a pipeline's triggers wait");
    }
  }

  /** Answers are read again only when there are new ones, or a minute has passed. */
  async #lookAtMetrics({ name, spec }: PipelineRow, now: Date): Promise<void> {
    const triggers = spec.triggers.filter((trigger) => trigger.type === "metric");
    if (triggers.length === 0) return;
    const newest = await this.#options.observations.newest(runOf(spec).name);
    const mark = `${newest}/${Math.floor(now.getTime() / rereadMs)}/${JSON.stringify(triggers)}`;
    if (this.#seen.get(name) === mark) return;
    for (const trigger of triggers) {
      const drop = await metricDrop(this.#options, spec, trigger, now);
      if (drop === null) continue;
      const firing: Firing = { key: drop.key, trigger: { type: "metric", detail: drop.detail }, actor: "drydock", now };
      await this.#options.database.transaction(async (tx) => await firePipelineTrigger(tx, name, firing));
    }
    this.#seen.set(name, mark);
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
