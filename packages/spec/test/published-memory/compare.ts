import { estimateMemory, type MemoryEstimate } from "../../src/planner/memory.ts";
import type { TrainableParts } from "../../src/planner/memory-question.ts";
import { architectures } from "./architectures.ts";
import { recipes } from "./recipes.ts";
import { publishedRows, type PublishedRow } from "./rows.ts";

export interface Comparison {
  readonly row: PublishedRow;
  /** In the row's own unit. */
  readonly predicted: number;
  /** predicted / measured − 1. */
  readonly difference: number;
  readonly isWithin: boolean;
}

/** The band of the domain reference: an estimate may be 10 % below or 30 % above what was measured. */
export const band = { low: -0.1, high: 0.3 } as const;

/** What the estimator says of a published run. */
function predictRow(row: PublishedRow): MemoryEstimate {
  const architecture = architectures[row.model];
  const { dataParallel = 1, pipelineStages = 1, tensorParallel = 1, sharding = "none", visualTokens = 0 } = row;
  const patches = architecture.vision === null ? 0 : visualTokens * architecture.vision.patchesPerToken;
  return estimateMemory({
    architecture,
    trainable: trainablePartsOf(row),
    lora: row.mode === "full" ? null : { rank: row.rank ?? 8, targets: "all-linear" },
    baseWeights: row.baseWeights ?? "bf16",
    layout: {
      dataParallel,
      pipelineStages,
      tensorParallel,
      sharding,
      microBatchSize: row.batch,
      accumulationSteps: 8,
      recomputeActivations: row.keepsActivations !== true,
    },
    sample: { tokens: row.tokens, labels: row.tokens, patches, patchesPerSegment: patches },
    recipe: recipes[row.recipe ?? "torch"],
  });
}

function trainablePartsOf(row: PublishedRow): TrainableParts {
  const isFull = row.mode === "full";
  return {
    decoder: isFull ? "full" : "adapter",
    vision: row.vision ?? "frozen",
    bridge: row.vision === "full" ? "full" : "frozen",
    embeddings: isFull ? "full" : row.copiesEmbeddings === true ? "copy" : "frozen",
  };
}

/** Predicted against measured, for every published row. */
export function compareAll(): Comparison[] {
  return publishedRows.map((row) => {
    const predicted = predictRow(row).totalBytes / (row.unit === "GB" ? 1e9 : 2 ** 30);
    const difference = predicted / row.measured - 1;
    return { row, predicted, difference, isWithin: difference >= band.low && difference <= band.high };
  });
}
