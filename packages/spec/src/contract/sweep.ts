import { z } from "zod";
import { Name, Timestamp } from "./common.ts";
import { RunParent, RunState, Scores } from "./run.ts";

const bound = z.number();

/** What one field of the run spec is drawn from. */
export const SweepRange = z
  .discriminatedUnion("type", [
    z.strictObject({ type: z.literal("log"), low: bound, high: bound }),
    z.strictObject({ type: z.literal("linear"), low: bound, high: bound }),
    /** Whole numbers, both ends included. */
    z.strictObject({ type: z.literal("int"), low: z.int(), high: z.int() }),
    z.strictObject({ type: z.literal("choice"), values: z.array(z.unknown()).min(1).max(100) }),
  ])
  .meta({ id: "SweepRange" });
export type SweepRange = z.infer<typeof SweepRange>;

const seed = z.int().min(0).max(0xffff_ffff).default(42);
const trials = z.int().min(1).max(500);

/** How settings are chosen. */
export const SweepSearch = z
  .discriminatedUnion("kind", [
    /** Every combination; a range is cut into `points` values, ends included. */
    z.strictObject({ kind: z.literal("grid"), points: z.int().min(1).max(100).default(3) }),
    z.strictObject({ kind: z.literal("random"), trials, seed }),
    /**
     * Asynchronous successive halving that stops (Li et al. 2020, arXiv 1810.05934, with stops in place of promotions): a trial that
     * is not among the best 1/`reductionFactor` of those seen at a rung ends there. Rungs: `minSteps`·`reductionFactor`^k steps.
     */
    z.strictObject({
      kind: z.literal("asha"),
      trials,
      seed,
      minSteps: z.int().min(1),
      maxSteps: z.int().min(1),
      reductionFactor: z.int().min(2).max(10).default(3),
    }),
  ])
  .meta({ id: "SweepSearch" });
export type SweepSearch = z.infer<typeof SweepSearch>;

/** Body of `POST /v1/sweeps`. */
export const SweepSpec = z
  .strictObject({
    name: Name,
    /** The run spec that trials share. Trials are ordinary runs under its name, so their models are versions of one model. */
    run: z.record(z.string(), z.unknown()),
    /** Fields of the run spec by dotted path, e.g. `training.learningRate`. */
    space: z.record(z.string().min(1).max(200), SweepRange),
    search: SweepSearch,
    /** A metric of the run's evaluations, or `loss`. Default: the headline of the task. */
    metric: z.string().min(1).max(64).optional(),
    /** Default: `min` for `loss`, else `max`. */
    goal: z.enum(["max", "min"]).optional(),
    maxParallel: z.int().min(1).max(100).default(4),
    budget: z.strictObject({ gpuHours: z.number().positive().optional() }).prefault({}),
  })
  .meta({ id: "SweepSpec" });
export type SweepSpec = z.output<typeof SweepSpec>;

export const SweepState = z
  .enum(["running", "paused", "cancelling", "succeeded", "failed", "cancelled"])
  .meta({ id: "SweepState" });
export type SweepState = z.infer<typeof SweepState>;

export const SweepRung = z.object({ step: z.int().positive(), score: z.number() }).meta({ id: "SweepRung" });
export type SweepRung = z.infer<typeof SweepRung>;

/** One setting that a sweep tries: an ordinary run. */
export const SweepTrial = z
  .object({
    number: z.int().positive(),
    /** Null when no run could be made of its settings. */
    runId: z.string().nullable(),
    /** `stopped`: at a rung, or for the budget. */
    state: z.enum(["running", "paused", "stopped", "succeeded", "failed", "cancelled"]),
    message: z.string(),
    parameters: z.record(z.string(), z.unknown()),
    /** Scores at the rungs that it reached, in order. */
    rungs: z.array(SweepRung),
    /** Of its last evaluation; null before the first. */
    score: z.number().nullable(),
    steps: z.int().nonnegative(),
    /** `name@version` of the model that it made. */
    model: z.string().nullable(),
  })
  .meta({ id: "SweepTrial" });
export type SweepTrial = z.infer<typeof SweepTrial>;

export const SweepBest = z
  .object({ trial: z.int().positive(), runId: z.string(), model: z.string().nullable(), score: z.number() })
  .meta({ id: "SweepBest" });
export type SweepBest = z.infer<typeof SweepBest>;

export const Sweep = z
  .object({
    id: z.string(),
    name: z.string(),
    state: SweepState,
    message: z.string(),
    spec: SweepSpec,
    metric: z.string(),
    goal: z.enum(["max", "min"]),
    maxParallel: z.int().positive(),
    /** What submitted it, when no person did. */
    parent: RunParent.nullable(),
    best: SweepBest.nullable(),
    trials: z.object({
      planned: z.int().nonnegative(),
      started: z.int().nonnegative(),
      running: z.int().nonnegative(),
      stopped: z.int().nonnegative(),
      succeeded: z.int().nonnegative(),
      failed: z.int().nonnegative(),
    }),
    /** Optimizer steps of all trials together. */
    steps: z.int().nonnegative(),
    gpuHours: z.number().nonnegative(),
    etag: z.string(),
    createdAt: Timestamp,
    updatedAt: Timestamp,
    endedAt: Timestamp.nullable(),
  })
  .meta({ id: "Sweep" });
export type Sweep = z.infer<typeof Sweep>;

/** Body of `PATCH /v1/sweeps/{id}`. */
export const SweepChange = z.strictObject({ maxParallel: z.int().min(1).max(100) }).meta({ id: "SweepChange" });

/** What a parallel-coordinates plot needs: an axis a field, the score last, and a line a trial. */
export const ParallelCoordinates = z
  .object({
    axes: z.array(
      z.object({ name: z.string(), scale: z.enum(["log", "linear", "category"]), values: z.array(z.unknown()) }),
    ),
    lines: z.array(z.object({ trial: z.int(), state: z.string(), values: z.array(z.unknown()) })),
  })
  .meta({ id: "ParallelCoordinates" });
export type ParallelCoordinates = z.infer<typeof ParallelCoordinates>;

/** All that decisions about a sweep depend on. */
export const SweepFacts = z.object({
  id: z.string(),
  state: SweepState,
  search: SweepSearch,
  goal: z.enum(["max", "min"]),
  planned: z.int().nonnegative(),
  maxParallel: z.int().positive(),
  gpuHours: z.number(),
  budgetGpuHours: z.number().nullable(),
  trials: z.array(
    z.object({
      number: z.int(),
      runId: z.string().nullable(),
      /** What the sweep decided of it. */
      decision: z.enum(["open", "held", "stopped"]),
      runState: RunState.nullable(),
      message: z.string(),
      rungs: z.array(SweepRung),
      finalScore: z.number().nullable(),
      scores: Scores.nullable(),
    }),
  ),
});
export type SweepFacts = z.infer<typeof SweepFacts>;

/** What is done about a sweep. Each changes its facts, so that the same facts are never answered twice. */
export const SweepAction = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("start"), trial: z.int().positive() }),
  z.strictObject({ kind: z.literal("stop"), trial: z.int().positive(), message: z.string() }),
  z.strictObject({ kind: z.literal("hold"), trial: z.int().positive() }),
  z.strictObject({ kind: z.literal("release"), trial: z.int().positive() }),
  z.strictObject({ kind: z.literal("end"), state: z.enum(["succeeded", "failed", "cancelled"]), message: z.string() }),
]);
export type SweepAction = z.infer<typeof SweepAction>;
