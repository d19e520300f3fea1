import type { Attempt, Checkpoint, Run, RunEvent, RunSummary, StepMetric } from "@drydock/spec";
import type { attempts, checkpoints, runEvents, runs, stepMetrics } from "./schema.ts";

/** Rows as read, turned into the shapes of the contract. */

export type RunRow = typeof runs.$inferSelect;

const isoOrNull = (time: Date | null): string | null => time?.toISOString() ?? null;

/**
 * ETag of a run: `"revision.progress"`. `If-Match` compares only the part before the dot, so that a guard on pause or
 * cancel does not fail because a step was reported meanwhile.
 */
export function etagOfRun(row: Pick<RunRow, "revision" | "progressRevision">): string {
  return `"${row.revision}.${row.progressRevision}"`;
}

function sharedFields(row: RunRow) {
  return {
    id: row.id,
    name: row.name,
    state: row.state,
    reason: row.reason,
    message: row.message,
    progress: row.progress,
    // Not in the row: it follows from all runs and the cluster (see scheduling/queue-forecasts.ts).
    waiting: null,
    scores: { before: row.scoresBefore, after: row.scoresAfter },
    model: row.model,
    parent: row.parent,
    etag: etagOfRun(row),
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
    startedAt: isoOrNull(row.startedAt),
    endedAt: isoOrNull(row.endedAt),
  };
}

export function toRun(row: RunRow, attemptRows: readonly (typeof attempts.$inferSelect)[]): Run {
  return { ...sharedFields(row), spec: row.spec, plan: row.plan, attempts: attemptRows.map(toAttempt) };
}

export function toRunSummary(row: RunRow): RunSummary {
  const { mode, task, model, dataset } = row.spec;
  return { ...sharedFields(row), mode, task, dataset, baseModel: typeof model === "string" ? model : model.uri };
}

export function toAttempt(row: typeof attempts.$inferSelect): Attempt {
  const { runId: _runId, startedAt, endedAt, ...rest } = row;
  return { ...rest, startedAt: startedAt.toISOString(), endedAt: isoOrNull(endedAt) };
}

export function toRunEvent(row: typeof runEvents.$inferSelect): RunEvent {
  const { runId: _runId, key: _key, time, ...rest } = row;
  return { ...rest, time: time.toISOString() };
}

export function toStepMetric(row: typeof stepMetrics.$inferSelect): StepMetric {
  const { runId: _runId, time, ...rest } = row;
  return { ...rest, time: time.toISOString() };
}

export function toCheckpoint(row: typeof checkpoints.$inferSelect): Checkpoint {
  return { ...row, createdAt: row.createdAt.toISOString() };
}
