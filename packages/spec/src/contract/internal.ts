import { z } from "zod";
import { DatasetStatistics, ImportOptions, ValidationReport } from "./dataset.ts";
import { EvaluationDetails } from "./evaluation-details.ts";
import { EvaluationSpec } from "./evaluation.ts";
import { Model } from "./model.ts";
import { Plan } from "./plan.ts";
import { RunSpec } from "./run-spec.ts";
import { Attempt, Checkpoint, RunEvent, RunProgress, RunReason, RunState, Scores, StepMetric } from "./run.ts";

/*
 * What the controller tells the api, on `/internal/v1` with the internal key. Every call is idempotent: the same body
 * twice leaves the same rows, so that an activity may be retried.
 *
 *   POST /internal/v1/runs/:runId/transitions     RunTransition            → { applied: boolean, state }
 *   PUT  /internal/v1/runs/:runId/attempts/:epoch AttemptUpdate            → {}
 *   POST /internal/v1/runs/:runId/reports         RunReportBatch           → {}
 *   GET  /internal/v1/runs/:runId                 → InternalRun
 *   POST /internal/v1/models                      ModelRegistration        → Model
 *   PUT  /internal/v1/evaluations/:id             EvaluationUpdate         → {}
 *   PUT  /internal/v1/datasets/:name/versions/:n  DatasetVersionUpdate     → {}
 *   PUT  /internal/v1/cluster                     ClusterReport            → ClusterReportAnswer   (cluster.ts)
 */

/** A change of state. `key` makes it idempotent: one event row per run and key. A terminal state is never left. */
export const RunTransition = z.strictObject({
  key: z.string().min(1),
  to: RunState,
  reason: RunReason,
  message: z.string(),
  attempt: z.int().nullable().default(null),
  step: z.int().nullable().default(null),
  actor: z.string().default("controller"),
});
export type RunTransition = z.input<typeof RunTransition>;

export const AttemptUpdate = Attempt;

/** What a worker reported since the last batch; rows are upserted by (step, attempt). */
export const RunReportBatch = z.strictObject({
  progress: RunProgress.optional(),
  metrics: z
    .array(StepMetric.omit({ sequence: true }))
    .max(1000)
    .default([]),
  checkpoints: z.array(Checkpoint).default([]),
  events: z.array(RunEvent.omit({ sequence: true }).extend({ key: z.string() })).default([]),
  scores: z.object({ before: Scores.optional(), after: Scores.optional() }).optional(),
});
export type RunReportBatch = z.input<typeof RunReportBatch>;

export const InternalRun = z.object({
  id: z.string(),
  state: RunState,
  spec: RunSpec,
  plan: Plan,
  attempts: z.array(Attempt),
  datasetId: z.string(),
  datasetVersion: z.int(),
});
export type InternalRun = z.infer<typeof InternalRun>;

export const ModelRegistration = Model.pick({
  name: true,
  version: true,
  kind: true,
  task: true,
  systemPrompt: true,
  files: true,
  lineage: true,
});
export type ModelRegistration = z.infer<typeof ModelRegistration>;

export const EvaluationUpdate = z.strictObject({
  runId: z.string().nullable(),
  phase: z.enum(["before", "during", "after", "standalone"]),
  step: z.int().nullable(),
  state: z.enum(["queued", "running", "succeeded", "failed", "cancelled"]),
  message: z.string(),
  spec: EvaluationSpec,
  scores: Scores.nullable(),
  samples: z.int().nonnegative(),
  seconds: z.number().nullable(),
  resultsKey: z.string().nullable(),
  details: EvaluationDetails.nullable().optional(),
});
export type EvaluationUpdate = z.infer<typeof EvaluationUpdate>;

export const DatasetVersionUpdate = z.strictObject({
  state: z.enum(["ready", "failed"]),
  reason: z.string().nullable(),
  digest: z.string().nullable(),
  statistics: DatasetStatistics.nullable(),
  report: ValidationReport.nullable(),
});
export type DatasetVersionUpdate = z.infer<typeof DatasetVersionUpdate>;

/** Inputs of the workflows: ids and digests, never data. The workflow id is the object's id. */
export const FineTuneInput = z.object({ runId: z.string() });
export const DatasetInput = z.object({
  versionId: z.string(),
  dataset: z.string(),
  datasetId: z.string(),
  version: z.int(),
  uploadKey: z.string(),
  options: ImportOptions,
});
export type DatasetInput = z.infer<typeof DatasetInput>;
export const EvaluationInput = z.object({
  evaluationId: z.string(),
  spec: EvaluationSpec,
  datasetId: z.string(),
  datasetVersion: z.int(),
});
export type EvaluationInput = z.infer<typeof EvaluationInput>;

/** Temporal names shared by api (client) and controller (worker). */
export const temporalNames = {
  taskQueue: "drydock-control",
  fineTuneRun: "fineTuneRun",
  dataset: "dataset",
  evaluationRun: "evaluationRun",
  sweep: "sweep",
  pipeline: "pipeline",
  pauseSignal: "pause",
  resumeSignal: "resume",
  resizeSignal: "resize",
  cancelSignal: "cancel",
} as const;
