import { z } from "zod";
import { DatasetReference, Name, Timestamp } from "./common.ts";
import { SweepSpec } from "./sweep.ts";

/** Of a difference; a smaller one takes more permutations than anybody would wait for. */
export const smallestSignificance = 0.0001;

const seconds = z.int().min(1).max(31_536_000);

/** What a pipeline does, in this order; each at most once. */
export const PipelineStep = z
  .discriminatedUnion("type", [
    /** Waits until the data-set version is checked and ready. */
    z.strictObject({ type: z.literal("validate"), timeoutSeconds: seconds.default(86_400) }),
    /** A run spec without its data set, which is the pipeline's. */
    z.strictObject({ type: z.literal("train"), run: z.record(z.string(), z.unknown()) }),
    /** A sweep spec; the data set of its run is the pipeline's. */
    z.strictObject({ type: z.literal("sweep"), sweep: z.record(z.string(), z.unknown()) }),
    /** Scores the candidate and what is in production, on the same validation split. */
    z.strictObject({
      type: z.literal("evaluate"),
      /** A data set that is trusted, whatever new data says; default: the pipeline's own version. */
      dataset: DatasetReference.optional(),
      metrics: z.array(z.string().min(1)).min(1).optional(),
      maxSamples: z.int().min(1).optional(),
      maxNewTokens: z.int().min(1).max(8192).optional(),
    }),
    z.strictObject({
      type: z.literal("gate"),
      rules: z.array(z.string().min(1).max(500)).min(1).max(50),
      /** Largest p-value at which a difference from production counts, for rules that name none. */
      significance: z.number().min(smallestSignificance).lt(1).optional(),
      withoutProduction: z.enum(["pass", "refuse"]).default("refuse"),
    }),
    /** Waits for a person. */
    z.strictObject({
      type: z.literal("approve"),
      timeoutSeconds: seconds.default(604_800),
      onTimeout: z.enum(["refuse", "promote"]).default("refuse"),
    }),
    /** Verifies the candidate's files and puts it into production. */
    z.strictObject({ type: z.literal("promote") }),
    /** Moves the alias of the model in use; deployments follow it. */
    z.strictObject({ type: z.literal("deploy"), alias: Name.default("live") }),
    /**
     * Looks at reported answers for a while: when their score is below `minimum`, or further than `maximumDrop` below that of the
     * evaluation, the version before is put into production again.
     */
    z.strictObject({
      type: z.literal("watch"),
      metric: z.string().min(1),
      minimum: z.number().optional(),
      maximumDrop: z.number().min(0).optional(),
      windowSeconds: seconds.default(86_400),
      minimumSamples: z.int().min(1).max(5000).default(50),
    }),
  ])
  .meta({ id: "PipelineStep" });
export type PipelineStep = z.output<typeof PipelineStep>;

/** What starts a pipeline, beside a person. */
export const PipelineTrigger = z
  .discriminatedUnion("type", [
    z.strictObject({
      type: z.literal("cron"),
      expression: z.string().min(1).max(100),
      timeZone: z.string().min(1).max(64).default("UTC"),
    }),
    /** A new version of the pipeline's data set is ready. */
    z.strictObject({ type: z.literal("dataset") }),
    /** A run of another pipeline succeeded. */
    z.strictObject({ type: z.literal("pipeline"), pipeline: Name }),
    /** A signed `POST /v1/pipelines/{name}/webhook` from outside. */
    z.strictObject({ type: z.literal("webhook") }),
    /**
     * Reported answers of the version in production score below `minimum`, or further than `maximumDrop` below what it scored after its
     * training. Starts one run a window.
     */
    z.strictObject({
      type: z.literal("metric"),
      metric: z.string().min(1),
      minimum: z.number().optional(),
      maximumDrop: z.number().min(0).optional(),
      windowSeconds: seconds.default(86_400),
      minimumSamples: z.int().min(1).max(5000).default(50),
    }),
  ])
  .meta({ id: "PipelineTrigger" });
export type PipelineTrigger = z.output<typeof PipelineTrigger>;

/** Body of `POST /v1/pipelines`. */
export const PipelineSpec = z
  .strictObject({
    name: Name,
    /** Its newest version is used. */
    dataset: Name,
    steps: z.array(PipelineStep).min(1).max(20),
    triggers: z.array(PipelineTrigger).max(20).default([]),
    /** Runs that may be open at a time. */
    maxConcurrent: z.int().min(1).max(20).default(1),
    /** A trigger while so many are open: leave it out, start when one has ended, or cancel those that are open first. */
    overlap: z.enum(["skip", "queue", "cancel-running"]).default("skip"),
    /** Times of a schedule that passed while nothing looked: none of them, the last, or each (at most 20). */
    catchUp: z.enum(["none", "latest", "all"]).default("latest"),
    budget: z
      .strictObject({
        runsPerDay: z.int().min(1).max(10_000).optional(),
        /** What the training or the sweep of one run may use: a sweep stops there and goes on with its best, a training ends the run. */
        gpuHours: z.number().positive().optional(),
      })
      .prefault({}),
  })
  .meta({ id: "PipelineSpec" });
export type PipelineSpec = z.output<typeof PipelineSpec>;

export const PipelineRunState = z
  .enum(["queued", "running", "cancelling", "succeeded", "refused", "failed", "cancelled", "rolled-back", "skipped"])
  .meta({ id: "PipelineRunState" });
export type PipelineRunState = z.infer<typeof PipelineRunState>;

export const openPipelineRunStates: readonly PipelineRunState[] = ["queued", "running", "cancelling"];

export const Pipeline = z
  .object({
    id: z.string(),
    name: z.string(),
    state: z.enum(["enabled", "paused"]),
    spec: PipelineSpec,
    /** When a schedule starts it next. */
    nextAt: Timestamp.nullable(),
    runs: z.int().nonnegative(),
    etag: z.string(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
  })
  .meta({ id: "Pipeline" });
export type Pipeline = z.infer<typeof Pipeline>;

/** What started a run. */
export const FiredTrigger = z
  .object({ type: z.enum(["cron", "dataset", "pipeline", "webhook", "metric", "manual"]), detail: z.string() })
  .meta({ id: "FiredTrigger" });
export type FiredTrigger = z.infer<typeof FiredTrigger>;

export const GateOutcome = z
  .object({
    passed: z.boolean(),
    results: z.array(
      z.object({
        rule: z.string(),
        passed: z.boolean(),
        reason: z.string(),
        candidate: z.number().nullable(),
        production: z.number().nullable(),
        difference: z.number().nullable(),
        pValue: z.number().nullable(),
        rows: z.int(),
      }),
    ),
  })
  .meta({ id: "GateOutcome" });

export const Approval = z
  .object({ decision: z.enum(["approved", "refused"]), actor: z.string(), comment: z.string(), at: Timestamp })
  .meta({ id: "Approval" });

/** What the steps of a run have made so far. */
export const PipelineResults = z
  .object({
    /** Steps that are done, in order. */
    done: z.array(z.string()).default([]),
    startedAt: z.record(z.string(), Timestamp).default({}),
    /** `name@version`. */
    dataset: z.string().optional(),
    runId: z.string().optional(),
    sweepId: z.string().optional(),
    candidate: z.string().optional(),
    /** What was in production when the candidate was evaluated; null: nothing. */
    production: z.string().nullable().optional(),
    evaluations: z.object({ candidate: z.string(), production: z.string().nullable() }).optional(),
    gate: GateOutcome.optional(),
    approval: Approval.optional(),
    promoted: z.boolean().optional(),
    /** How often evaluation and gate were done again, because another version had gone into production meanwhile. */
    repeats: z.int().nonnegative().optional(),
  })
  .meta({ id: "PipelineResults" });
export type PipelineResults = z.output<typeof PipelineResults>;

export const PipelineRun = z
  .object({
    id: z.string(),
    pipeline: z.string(),
    number: z.int().positive(),
    state: PipelineRunState,
    /** The step that it is at; null before the first and after the last. */
    step: z.string().nullable(),
    message: z.string(),
    trigger: FiredTrigger,
    spec: PipelineSpec,
    results: PipelineResults,
    createdAt: Timestamp,
    updatedAt: Timestamp,
    endedAt: Timestamp.nullable(),
  })
  .meta({ id: "PipelineRun" });
export type PipelineRun = z.infer<typeof PipelineRun>;

/** One row of a run's timeline. `sequence` grows by one. */
export const PipelineEvent = z
  .object({
    sequence: z.int().positive(),
    time: Timestamp,
    actor: z.string(),
    step: z.string().nullable(),
    type: z.enum([
      "triggered",
      "step.started",
      "step.done",
      "step.repeated",
      "approved",
      "refused",
      "cancel-requested",
      "rolled-back",
      "ended",
    ]),
    message: z.string(),
  })
  .meta({ id: "PipelineEvent" });
export type PipelineEvent = z.infer<typeof PipelineEvent>;

/** What would happen if a pipeline were started now. */
export const PipelineDryRun = z
  .object({
    dataset: z.string().nullable(),
    model: z.string(),
    production: z.string().nullable(),
    steps: z.array(z.object({ step: z.string(), what: z.string() })),
    /** Next times of its schedules. */
    nextTimes: z.array(Timestamp),
    /** What would make it fail or wait; empty when nothing would. */
    problems: z.array(z.string()),
  })
  .meta({ id: "PipelineDryRun" });
export type PipelineDryRun = z.infer<typeof PipelineDryRun>;

/** What the controller is told of a run after a look: whether to look again, and what only it can do. */
export const PipelineAdvance = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("over") }),
  z.object({ kind: z.literal("wait") }),
  z.object({ kind: z.literal("again") }),
  z.object({
    kind: z.literal("promote"),
    name: z.string(),
    version: z.int(),
    key: z.string(),
    message: z.string(),
    /** In production when the candidate was held against it; absent when it was not. */
    expected: z.int().nullable().optional(),
  }),
]);
export type PipelineAdvance = z.infer<typeof PipelineAdvance>;

/** The template of the sweep step, with the pipeline's data set. */
export function sweepOfStep({ sweep }: Extract<PipelineStep, { type: "sweep" }>, dataset: string) {
  const run = typeof sweep["run"] === "object" && sweep["run"] !== null ? sweep["run"] : {};
  return SweepSpec.safeParse({ ...sweep, run: { ...run, dataset } });
}
