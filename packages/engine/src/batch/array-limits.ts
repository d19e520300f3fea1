import { processorMemory } from "@drydock/spec";
import type { ArrayLimits } from "../models/variables.ts";
import type { ModelBatch } from "./model-batch.ts";

/** Tokens of a row, or patches of a picture, from which attention goes piece by piece; elements of scores at a time (32 MiB). */
export const { longRow, attentionElements } = processorMemory;
/** Elements of logits from which, and at most how many, the loss is computed at a time: 64 MiB. */
export const logitElements = 1 << 24;

/** What the loss of a batch computes. */
export interface LogitSizes {
  /** Positions with a label. */
  readonly rows: number;
  readonly vocabulary: number;
  /** Elements of the gradient of the output head; 0 when the head is not trained. */
  readonly headGradient: number;
}

/** Limits for a batch's pass. Short batches get none: whole arrays are a little faster. */
export function arrayLimits(batch: ModelBatch, { rows, vocabulary, headGradient }: LogitSizes): ArrayLimits {
  const longest = Math.max(
    batch.sequenceLength,
    ...batch.pictures.map(({ grid }) => grid.time * grid.height * grid.width),
  );
  // The gradient of a trained head is summed over the pieces, in arrays of its size: smaller pieces would save nothing.
  const logits = Math.max(logitElements, 2 * headGradient);
  return {
    ...(longest > longRow ? { attention: attentionElements } : {}),
    ...(rows * vocabulary > logits ? { logits } : {}),
  };
}

/** Elements of the gradient of the output head among those of what is trained, by name. */
export function headGradient(gradients: ReadonlyMap<string, { readonly length: number }>): number {
  const sizes = [...gradients].flatMap(([name, { length }]) =>
    /(lm_head|embed_tokens)\.weight$/.test(name) ? [length] : [],
  );
  return Math.max(0, ...sizes);
}
