import { RunReportBatch, type Checkpoint, type RunEvent, type StepMetric } from "@drydock/spec";
import { and, asc, eq, gt, inArray, sql } from "drizzle-orm";
import { decodeNumberCursor, pageFrom, type Page } from "../pages.ts";
import type { Database } from "./database.ts";
import { toCheckpoint, toRunEvent, toStepMetric } from "./run-records.ts";
import { lockRun, runNotFound } from "./run-store.ts";
import { checkpoints, runEvents, runs, stepMetrics } from "./schema.ts";

export interface SequencePage {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

type Lock = Awaited<ReturnType<typeof lockRun>>;

/** What running attempts measure: steps, checkpoints, happenings. Written in batches, read in order of arrival. */
export class RunReportStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Writes what a worker reported since the last batch. The same batch twice leaves the same rows: metrics and
   * checkpoints are upserted, events are known by their key.
   *
   * @throws NotFoundError `run_not_found`
   */
  async append(runId: string, input: RunReportBatch): Promise<void> {
    const batch = RunReportBatch.parse(input);
    await this.#database.transaction(async (tx) => {
      const lock = await lockRun(tx, runId);
      const lastMetric = await appendMetrics(tx, runId, batch.metrics, lock);
      const lastEvent = await appendEvents(tx, runId, batch.events, lock);
      await upsertCheckpoints(tx, runId, batch.checkpoints);
      await tx
        .update(runs)
        .set({
          lastMetric,
          lastEvent,
          progressRevision: lock.progressRevision + 1,
          updatedAt: new Date(),
          // A report that was held up on its way may arrive after later ones: progress never goes back.
          ...(batch.progress === undefined || batch.progress.step < lock.progress.step
            ? {}
            : { progress: batch.progress }),
          ...(batch.scores?.before === undefined ? {} : { scoresBefore: batch.scores.before }),
          ...(batch.scores?.after === undefined ? {} : { scoresAfter: batch.scores.after }),
        })
        .where(eq(runs.id, runId));
    });
  }

  /** Events in order; the cursor, and the id of a server-sent event, is the sequence number of the last one seen. */
  async events(runId: string, page: SequencePage): Promise<Page<RunEvent>> {
    const rows = await this.eventsAfter(runId, decodeNumberCursor(page.cursor), page.limit + 1);
    return pageFrom(
      rows,
      page.limit,
      (event) => event,
      (event) => event.sequence,
    );
  }

  async eventsAfter(runId: string, sequence: number, limit: number): Promise<RunEvent[]> {
    const rows = await this.#database
      .select()
      .from(runEvents)
      .where(and(eq(runEvents.runId, runId), gt(runEvents.sequence, sequence)))
      .orderBy(asc(runEvents.sequence))
      .limit(limit);
    return rows.map(toRunEvent);
  }

  async metrics(runId: string, page: SequencePage): Promise<Page<StepMetric>> {
    const rows = await this.metricsAfter(runId, decodeNumberCursor(page.cursor), page.limit + 1);
    return pageFrom(
      rows,
      page.limit,
      (metric) => metric,
      (metric) => metric.sequence,
    );
  }

  async metricsAfter(runId: string, sequence: number, limit: number): Promise<StepMetric[]> {
    const rows = await this.#database
      .select()
      .from(stepMetrics)
      .where(and(eq(stepMetrics.runId, runId), gt(stepMetrics.sequence, sequence)))
      .orderBy(asc(stepMetrics.sequence))
      .limit(limit);
    return rows.map(toStepMetric);
  }

  async checkpoints(runId: string, page: SequencePage): Promise<Page<Checkpoint>> {
    const after = page.cursor === undefined ? -1 : decodeNumberCursor(page.cursor);
    const rows = await this.#database
      .select()
      .from(checkpoints)
      .where(and(eq(checkpoints.runId, runId), gt(checkpoints.step, after)))
      .orderBy(asc(checkpoints.step))
      .limit(page.limit + 1);
    return pageFrom(rows, page.limit, toCheckpoint, (row) => row.step);
  }

  /** All that a run has told of, in the order of their steps; their files may have been removed since. */
  async allCheckpoints(runId: string): Promise<Checkpoint[]> {
    const rows = await this.#database
      .select()
      .from(checkpoints)
      .where(eq(checkpoints.runId, runId))
      .orderBy(asc(checkpoints.step));
    return rows.map(toCheckpoint);
  }

  /** @throws NotFoundError `run_not_found` */
  async requireRun(runId: string): Promise<void> {
    const [row] = await this.#database.select({ id: runs.id }).from(runs).where(eq(runs.id, runId));
    if (row === undefined) throw runNotFound(runId);
  }
}

/** A (step, attempt) that is reported again changes nothing: the same attempt measures a step once. */
async function appendMetrics(
  tx: Database,
  runId: string,
  metrics: readonly Omit<StepMetric, "sequence">[],
  lock: Lock,
): Promise<number> {
  const latest = new Map(metrics.map((metric) => [`${metric.attempt}/${metric.step}`, metric]));
  if (latest.size === 0) return lock.lastMetric;
  let sequence = lock.lastMetric;
  const values = [...latest.values()].map((metric) => ({
    ...metric,
    runId,
    sequence: ++sequence,
    time: new Date(metric.time),
  }));
  await tx
    .insert(stepMetrics)
    .values(values)
    .onConflictDoNothing({ target: [stepMetrics.runId, stepMetrics.attempt, stepMetrics.step] });
  return sequence;
}

async function appendEvents(tx: Database, runId: string, events: RunReportBatchEvents, lock: Lock): Promise<number> {
  const byKey = new Map(events.map((event) => [event.key, event]));
  if (byKey.size === 0) return lock.lastEvent;
  const known = await tx
    .select({ key: runEvents.key })
    .from(runEvents)
    .where(and(eq(runEvents.runId, runId), inArray(runEvents.key, [...byKey.keys()])));
  for (const { key } of known) byKey.delete(key);
  if (byKey.size === 0) return lock.lastEvent;
  let sequence = lock.lastEvent;
  await tx
    .insert(runEvents)
    .values(
      [...byKey.values()].map((event) => ({ ...event, runId, sequence: ++sequence, time: new Date(event.time) })),
    );
  return sequence;
}

type RunReportBatchEvents = readonly (Omit<RunEvent, "sequence"> & { readonly key: string })[];

async function upsertCheckpoints(tx: Database, runId: string, reported: readonly Checkpoint[]): Promise<void> {
  const byStep = new Map(reported.map((checkpoint) => [checkpoint.step, checkpoint]));
  if (byStep.size === 0) return;
  const { isBest, scores, attempt, key, sizeBytes, manifestSha256 } = checkpoints;
  const set = Object.fromEntries(
    Object.entries({ isBest, scores, attempt, key, sizeBytes, manifestSha256 }).map(([field, column]) => [
      field,
      sql.raw(`excluded.${column.name}`),
    ]),
  );
  await tx
    .insert(checkpoints)
    .values(
      [...byStep.values()].map((checkpoint) => ({ ...checkpoint, runId, createdAt: new Date(checkpoint.createdAt) })),
    )
    .onConflictDoUpdate({ target: [checkpoints.runId, checkpoints.step], set });
  const best = [...byStep.values()].findLast((checkpoint) => checkpoint.isBest);
  if (best !== undefined)
    await tx
      .update(checkpoints)
      .set({ isBest: false })
      .where(and(eq(checkpoints.runId, runId), eq(checkpoints.isBest, true), sql`${checkpoints.step} <> ${best.step}`));
}
