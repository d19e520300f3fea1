import { z } from "zod";
import { DatasetReference, Name, Task } from "./common.ts";

/**
 * A model by catalogue name, by `name@version` or `name@alias` of one that Drydock made, or by the URI of a Hugging Face folder. An
 * alias is replaced by the number that it stands for when a run or an evaluation is written.
 */
export const ModelReference = z
  .union([
    z
      .string()
      .regex(
        /^[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,61}[a-zA-Z0-9])?(?:@(?:[1-9][0-9]*|(?![0-9]+$)[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?))?$/,
        "use a catalogue name, name@version or name@alias",
      ),
    z.strictObject({ uri: z.string().min(1).max(2048) }),
  ])
  .meta({ id: "ModelReference" });
export type ModelReference = z.infer<typeof ModelReference>;

export const LoraSettings = z
  .strictObject({
    rank: z.int().min(1).max(1024).default(16),
    alpha: z.number().positive().max(8192).default(32),
    dropout: z.number().min(0).max(0.9).default(0.05),
    /**
     * `all-linear`: every linear layer of the language model; names of layers (a module path, or its end: `q_proj`); or, as any other
     * text, a regular expression that matches whole module paths.
     */
    targets: z.union([z.string().min(1).max(1024), z.array(z.string().min(1)).min(1)]).default("all-linear"),
    /** Whether `all-linear` and names reach the vision tower and the bridge, too. */
    includeVision: z.boolean().optional(),
    /** Layers that are left out: names, or a regular expression. */
    exclude: z.union([z.string().min(1).max(1024), z.array(z.string().min(1))]).optional(),
    /** Scale alpha/√rank in place of alpha/rank. */
    useRslora: z.boolean().optional(),
    /** Trains the lengths of the rows of adapted weights on their own. */
    useDora: z.boolean().optional(),
    /** First values of the first matrix; the second is zero. */
    initialization: z.enum(["kaiming", "gaussian"]).optional(),
    /** Which biases are trained with the matrices. */
    bias: z.enum(["none", "all", "lora_only"]).optional(),
    /** Modules that are trained whole, by path or its end. */
    modulesToSave: z.array(z.string().min(1)).optional(),
    /** Ranks and alphas of single layers, by a regular expression that matches the end of the path. */
    rankPattern: z.record(z.string().min(1), z.int().min(1).max(1024)).optional(),
    alphaPattern: z.record(z.string().min(1), z.number().positive()).optional(),
  })
  .meta({ id: "LoraSettings" });
export type LoraSettings = z.infer<typeof LoraSettings>;

export const TrainingSettings = z
  .strictObject({
    epochs: z.number().positive().max(1000).default(3),
    /** Stops after so many optimizer steps, whatever `epochs` says. */
    maxSteps: z.int().positive().optional(),
    globalBatchSize: z.int().min(1).max(65536).default(16),
    /** Rows per forward pass and rank; by default the planner chooses. Never changes the result, only memory and speed. */
    microBatchSize: z.int().min(1).max(4096).optional(),
    /** Default: 1e-4 for LoRA, 1e-5 for full. */
    learningRate: z.number().positive().max(10).optional(),
    schedule: z.enum(["cosine", "linear", "constant"]).default("cosine"),
    warmupRatio: z.number().min(0).max(0.5).default(0.03),
    weightDecay: z.number().min(0).max(1).default(0),
    maxGradientNorm: z.number().positive().default(1),
    betas: z.tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)]).default([0.9, 0.999]),
    epsilon: z.number().positive().default(1e-8),
    seed: z.int().min(0).max(0xffff_ffff).default(42),
    lora: LoraSettings.prefault({}),
    baseWeights: z.enum(["bf16", "int8", "nf4"]).default("bf16"),
  })
  .meta({ id: "TrainingSettings" });
export type TrainingSettings = z.infer<typeof TrainingSettings>;

export const Resources = z
  .union([
    z.literal("auto"),
    z.strictObject({
      accelerator: z.string().min(1).optional(),
      gpus: z.int().min(1).max(1024).optional(),
      pipelineStages: z.int().min(1).max(128).optional(),
    }),
  ])
  .meta({ id: "Resources" });
export type Resources = z.infer<typeof Resources>;

export const CheckpointSettings = z
  .strictObject({
    everySteps: z.int().min(1).default(50),
    keepLast: z.int().min(1).max(1000).default(3),
    keepBest: z.boolean().default(true),
  })
  .meta({ id: "CheckpointSettings" });

export const EvaluationSettings = z
  .strictObject({
    /** Evaluate the base before the first step: row 0 of the report. */
    before: z.boolean().default(true),
    /** Also every so many steps; 0 = only before and after. */
    everySteps: z.int().min(0).default(0),
    /** Also after these steps: the rungs of a sweep. */
    atSteps: z.array(z.int().min(1)).max(100).optional(),
    /** The first is the headline; default by task: `f1@0.5` or `exact-match`. */
    metrics: z.array(z.string().min(1)).min(1).optional(),
    /** At most so many rows of the validation split are used while training (the final evaluation uses all). */
    maxSamples: z.int().min(1).optional(),
    maxNewTokens: z.int().min(1).max(8192).default(128),
  })
  .meta({ id: "EvaluationSettings" });

export const Priority = z.enum(["low", "normal", "high"]).meta({ id: "Priority" });

/**
 * Where training begins in place of the base's weights (or of a fresh adapter): the weights of a checkpoint. Optimizer, schedule and order of
 * the rows start anew.
 */
export const WarmStart = z
  .strictObject({
    /** Id of a run that is over. */
    run: z.string().min(1).max(64),
    /** Default: its best checkpoint, or the newest when none was scored. */
    step: z.int().min(0).optional(),
  })
  .meta({ id: "WarmStart" });
export type WarmStart = z.infer<typeof WarmStart>;

/** What a user posts to `/v1/plans` and `/v1/runs`. Unknown keys are refused. */
export const RunSpec = z
  .strictObject({
    name: Name,
    model: ModelReference,
    mode: z.enum(["lora", "full"]).default("lora"),
    dataset: DatasetReference,
    task: Task,
    systemPrompt: z.string().max(20_000).optional(),
    image: z.strictObject({ minPixels: z.int().min(1).optional(), maxPixels: z.int().min(1).optional() }).prefault({}),
    training: TrainingSettings.prefault({}),
    warmStart: WarmStart.optional(),
    resources: Resources.default("auto"),
    checkpoint: CheckpointSettings.prefault({}),
    evaluation: EvaluationSettings.prefault({}),
    queue: Name.default("default"),
    priority: Priority.default("normal"),
    deadlineSeconds: z.int().min(60).max(31_536_000).default(86_400),
    retries: z.int().min(0).max(100).default(3),
    /** Train on a data set below the minimums (20 pictures, 100 pairs) all the same. */
    allowSmall: z.boolean().default(false),
    /** `sequential`: rows in file order, no shuffling (fidelity checks). */
    order: z.enum(["shuffled", "sequential"]).default("shuffled"),
    metadata: z.record(z.string().max(64), z.string().max(512)).default({}),
  })
  .meta({ id: "RunSpec" });
/** A run spec with every default filled in. */
export type RunSpec = z.output<typeof RunSpec>;
/** A run spec as a user writes it. */
export type RunSpecInput = z.input<typeof RunSpec>;

/** Body of `POST /v1/runs`: the spec, and optionally the plan that the user saw. */
export const RunSubmission = z
  .strictObject({ ...RunSpec.shape, expect: z.strictObject({ planDigest: z.string() }).optional() })
  .meta({ id: "RunSubmission" });

/** The learning rate of a spec, the default of its mode included. */
export function learningRateOf(spec: Pick<RunSpec, "mode" | "training">): number {
  return spec.training.learningRate ?? (spec.mode === "lora" ? 1e-4 : 1e-5);
}
