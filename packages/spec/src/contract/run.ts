import { z } from "zod";
import { Timestamp } from "./common.ts";
import { Plan } from "./plan.ts";
import { RunSpec } from "./run-spec.ts";
import { RunWaiting } from "./waiting.ts";

export const RunState = z
  .enum([
    "validating",
    "queued",
    "scheduling",
    "running",
    "evaluating",
    "pausing",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
  ])
  .meta({ id: "RunState" });
export type RunState = z.infer<typeof RunState>;

/** States that a run never leaves. */
export const terminalRunStates: readonly RunState[] = ["succeeded", "failed", "cancelled"];

/** The closed list of reasons, shared from the REST answer down to the pod. */
export const RunReason = z
  .enum([
    "submitted",
    "data-checked",
    "waiting-for-capacity",
    "waiting-in-queue",
    "starting-worker",
    "worker-joined",
    "step-finished",
    "baseline-evaluation",
    "final-evaluation",
    "completed",
    "pause-requested",
    "paused-after-checkpoint",
    "resume-requested",
    "resize-requested",
    "priority-changed",
    "cancel-requested",
    "out-of-memory",
    "preempted",
    "node-lost",
    "worker-lost",
    "hung",
    "hardware",
    "storage-unavailable",
    "bad-data",
    "bad-config",
    "image-pull",
    "diverged",
    "deadline-exceeded",
    "retries-exhausted",
    "plan-refused",
    "internal-error",
  ])
  .meta({ id: "RunReason" });
export type RunReason = z.infer<typeof RunReason>;

/** What is asked of a run that is to go on with more or fewer ranks, one a GPU. The global batch and the order of the data stay. */
export const RunResize = z.strictObject({ gpus: z.int().min(1).max(1024) }).meta({ id: "RunResize" });
export type RunResize = z.infer<typeof RunResize>;

export const RunProgress = z
  .object({
    step: z.int().nonnegative(),
    totalSteps: z.int().nonnegative(),
    epoch: z.number().nonnegative(),
    loss: z.number().nullable(),
    tokensPerSecond: z.number().nullable(),
    remainingSeconds: z.number().nullable(),
  })
  .meta({ id: "RunProgress" });

/** Scores of one evaluation, keyed by metric name; 0..100 for rates. */
export const Scores = z.record(z.string(), z.number()).meta({ id: "Scores" });
export type Scores = z.infer<typeof Scores>;

/** One try of a run. `epoch` only grows; an older epoch can write nothing. */
export const Attempt = z
  .object({
    epoch: z.int().positive(),
    state: z.enum(["starting", "running", "stopping", "succeeded", "failed", "stopped"]),
    failureClass: RunReason.nullable(),
    message: z.string().nullable(),
    exitCode: z.int().nullable(),
    fromStep: z.int().nonnegative(),
    lastStep: z.int().nonnegative(),
    microBatchSize: z.int().positive().nullable(),
    startedAt: Timestamp,
    endedAt: Timestamp.nullable(),
  })
  .meta({ id: "Attempt" });
export type Attempt = z.infer<typeof Attempt>;

/** What submitted a run, when no person did. */
export const RunParent = z
  .object({
    kind: z.enum(["sweep", "pipeline"]),
    /** Of the sweep, or of the pipeline's run. */
    id: z.string(),
    /** Number of the trial; name of the step. */
    part: z.string(),
  })
  .meta({ id: "RunParent" });
export type RunParent = z.infer<typeof RunParent>;

export const Run = z
  .object({
    id: z.string(),
    name: z.string(),
    state: RunState,
    reason: RunReason,
    /** A sentence for people: why it waits, what it does, or what went wrong and what to do. */
    message: z.string(),
    spec: RunSpec,
    plan: Plan,
    progress: RunProgress,
    /** Why it waits, for whom and how long; null when it does not wait for room. */
    waiting: RunWaiting.nullable(),
    attempts: z.array(Attempt),
    scores: z.object({ before: Scores.nullable(), after: Scores.nullable() }),
    /** `name@version` of the model that the run made. */
    model: z.string().nullable(),
    /** Null when a person submitted it. */
    parent: RunParent.nullable(),
    etag: z.string(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
    startedAt: Timestamp.nullable(),
    endedAt: Timestamp.nullable(),
  })
  .meta({ id: "Run" });
export type Run = z.infer<typeof Run>;

/** A run without its plan and attempts, for lists. */
export const RunSummary = Run.omit({ plan: true, attempts: true, spec: true })
  .extend({ mode: z.enum(["lora", "full"]), task: z.string(), baseModel: z.string(), dataset: z.string() })
  .meta({ id: "RunSummary" });
export type RunSummary = z.infer<typeof RunSummary>;

/** One row of a run's history. `sequence` grows by one per run: the SSE event id. */
export const RunEvent = z
  .object({
    sequence: z.int().positive(),
    time: Timestamp,
    actor: z.string(),
    type: z.enum([
      "state.changed",
      "attempt.started",
      "attempt.ended",
      "checkpoint.saved",
      "evaluation.finished",
      "model.published",
      "remedy.applied",
      "priority.changed",
      "warning",
    ]),
    from: RunState.nullable(),
    to: RunState.nullable(),
    reason: RunReason,
    message: z.string(),
    attempt: z.int().nullable(),
    step: z.int().nullable(),
  })
  .meta({ id: "RunEvent" });
export type RunEvent = z.infer<typeof RunEvent>;

/** What one step measured. */
export const StepMetric = z
  .object({
    sequence: z.int().positive(),
    step: z.int().positive(),
    attempt: z.int().positive(),
    time: Timestamp,
    loss: z.number(),
    learningRate: z.number(),
    gradientNorm: z.number(),
    tokens: z.int(),
    seconds: z.number(),
    memoryBytes: z.number(),
  })
  .meta({ id: "StepMetric" });
export type StepMetric = z.infer<typeof StepMetric>;

export const CheckpointFile = z
  .object({ name: z.string(), sizeBytes: z.int().nonnegative(), sha256: z.string() })
  .meta({ id: "CheckpointFile" });

export const Checkpoint = z
  .object({
    runId: z.string(),
    step: z.int().nonnegative(),
    attempt: z.int().positive(),
    key: z.string(),
    sizeBytes: z.int().nonnegative(),
    manifestSha256: z.string(),
    isBest: z.boolean(),
    scores: Scores.nullable(),
    createdAt: Timestamp,
  })
  .meta({ id: "Checkpoint" });
export type Checkpoint = z.infer<typeof Checkpoint>;
