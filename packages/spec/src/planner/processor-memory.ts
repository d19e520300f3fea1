import type { Architecture } from "../catalogue/architecture.ts";
import type { ParameterCounts } from "../catalogue/parameters.ts";
import { formatBytes, formatCount } from "./format.ts";
import type { MemoryQuestion } from "./memory-question.ts";

/*
 * What Drydock's engine holds on the CPU beyond what the formulas of all programs count. Each figure is that of the engine's
 * code; docs/decisions/0003-memory-model.md holds predicted against measured.
 */
export const processorMemory = {
  /** Float32 values of frozen weights that stay read while activations are recomputed (weights/frozen-weights.ts of the engine). */
  streamedBytes: 2 ** 30,
  /** Models of more 16-bit weights are read in place, without copies (graph/onnx/encoder.ts: 2²⁹ bytes). */
  copiedParameters: 2 ** 28,
  /** Models of up to so many weights train in two lanes, each with gradients and weights (training/gradient-lanes.ts). */
  laneParameters: 2 ** 24,
  /** Rows beyond which attention goes piece by piece, and elements of a piece (batch/array-limits.ts). */
  longRow: 1024,
  attentionElements: 2 ** 23,
  /** Bytes an element of a piece: four of scores, weights and their gradients at once, the others in their place. */
  pieceBytes: 16,
  /** Reserved over used where activations are kept: ONNX Runtime's arena grows by doubling, and keeps what it has. */
  keptFactor: 1.3,
} as const;

interface Term {
  readonly sizeBytes: number;
  readonly formula: string;
}

/**
 * Float32 values of frozen weights when layers stream: what stays read, as much again in arrays of
 * other sizes that are kept for use, and the largest table.
 */
export function streamedWeights({ text }: Architecture): number {
  return 2 * processorMemory.streamedBytes + 4 * text.vocabularySize * text.hiddenSize;
}

/** Copies of weights for products, for answers and for lanes. */
export function processorCopies(question: MemoryQuestion, counts: ParameterCounts, trained: number): Term {
  const { trainable, layout, baseWeights, architecture, recipe } = question;
  const isQuantized = baseWeights !== "bf16";
  const frozen = trainable.decoder === "full" ? 0 : counts.total - (isQuantized ? counts.decoderLinears : 0);
  const isCopied = counts.total <= processorMemory.copiedParameters;
  const texts: string[] = [];
  let sizeBytes = 0;
  const add = (bytes: number, text: string): void => {
    if (bytes <= 0) return;
    sizeBytes += bytes;
    texts.push(`${formatBytes(bytes)} ${text}`);
  };
  const lanes = counts.total <= processorMemory.laneParameters && layout.microBatchSize > 1 ? 2 : 1;
  if (isCopied) {
    const packed = layout.recomputeActivations || frozen === 0 ? 0 : counts.decoderLinears + counts.vision;
    add(4 * lanes * (isQuantized ? 0 : packed), "of weights packed for products");
    // One session takes prompts, one the tokens after them; each packs what is frozen.
    if (recipe.answers) add(2 * 4 * frozen, `of weights packed for answers (2 × 4 B × ${formatCount(frozen)})`);
  } else if (frozen > 0) {
    if (recipe.answers || !layout.recomputeActivations) add(2 * frozen, "of weights read in place");
    if (recipe.answers)
      add(4 * architecture.text.vocabularySize * architecture.text.hiddenSize, "of the output head for answers");
  }
  add(4 * (lanes - 1) * trained, "of the second lane's gradients");
  return { sizeBytes, formula: texts.map((text) => ` + ${text}`).join("") };
}
