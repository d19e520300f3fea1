import { z } from "zod";

/** One term of the memory of one GPU, with the formula that gave it. */
export const MemoryTerm = z
  .object({
    name: z.enum(["weights", "adapter", "gradients", "optimizer", "activations", "logits", "runtime"]),
    sizeBytes: z.number().nonnegative(),
    formula: z.string(),
  })
  .meta({ id: "MemoryTerm" });
export type MemoryTerm = z.infer<typeof MemoryTerm>;

export const TokenStatistics = z
  .object({ p50: z.number(), p95: z.number(), max: z.number() })
  .meta({ id: "TokenStatistics" });

/** The token monitor: tokens per sample against the context window. */
export const TokenMonitor = z
  .object({
    basis: z.enum(["data", "assumption"]),
    samples: z.int().nonnegative(),
    visual: TokenStatistics,
    text: TokenStatistics,
    total: TokenStatistics,
    contextWindow: z.int(),
    overWindow: z.int().nonnegative(),
    textIsEstimate: z.boolean(),
  })
  .meta({ id: "TokenMonitor" });
export type TokenMonitor = z.infer<typeof TokenMonitor>;

/** Something to know (warning) or the reason why there is no run (refusal). `message` says what to do. */
export const PlanNote = z.object({ code: z.string(), path: z.string(), message: z.string() }).meta({ id: "PlanNote" });
export type PlanNote = z.infer<typeof PlanNote>;

export const Range = z.object({ low: z.number(), expected: z.number(), high: z.number() }).meta({ id: "Range" });

export const Layout = z
  .object({
    gpus: z.int().positive(),
    pods: z.int().positive(),
    gpusPerPod: z.int().positive(),
    dataParallel: z.int().positive(),
    pipelineStages: z.int().positive(),
    sharding: z.enum(["none", "optimizer", "full"]),
    microBatchSize: z.int().positive(),
    accumulationSteps: z.int().positive(),
    recomputeActivations: z.boolean(),
  })
  .meta({ id: "Layout" });
export type Layout = z.infer<typeof Layout>;

/** The answer to "what would this run need, and why". Holds no GPU and writes nothing. */
export const Plan = z
  .object({
    digest: z.string(),
    model: z.object({
      name: z.string(),
      family: z.string(),
      parameters: z.number(),
      trainableParameters: z.number(),
      license: z.string(),
    }),
    accelerator: z.object({ name: z.string(), memoryBytes: z.number(), reason: z.string() }).nullable(),
    layout: Layout.nullable(),
    /** Layouts to fall back to when memory runs out, in order. */
    alternatives: z.array(Layout),
    memory: z
      .object({ terms: z.array(MemoryTerm), totalBytes: z.number(), availableBytes: z.number(), hostBytes: z.number() })
      .nullable(),
    tokens: TokenMonitor,
    steps: z.object({
      perEpoch: z.number(),
      total: z.int(),
      globalBatchSize: z.int(),
      samples: z.int(),
      basis: z.string(),
    }),
    timeSeconds: Range.extend({ basis: z.string() }).nullable(),
    cost: Range.extend({ currency: z.string(), basis: z.string() }).nullable(),
    queueWait: z.object({
      expectedSeconds: z.number().nullable(),
      /** Earliest, expected and latest; null or absent when it is not known. */
      seconds: Range.nullish(),
      basis: z.string(),
    }),
    warnings: z.array(PlanNote),
    refusals: z.array(PlanNote),
  })
  .meta({ id: "Plan" });
export type Plan = z.infer<typeof Plan>;

/** The layouts that a run may have: the one that was planned, then those to fall back to when memory runs out, in order. */
export function layoutsOf({ layout, alternatives }: Pick<Plan, "layout" | "alternatives">): readonly Layout[] {
  return layout ? [layout, ...alternatives] : [];
}
