import { processorMemory } from "@drydock/spec";
import type { ArrayLimits } from "../models/variables.ts";
import type { ModelBatch } from "./model-batch.ts";

/** Tokens of a row, or patches of a picture, from which attention goes piece by piece; elements of scores at a time (32 MiB). */
export const { longRow, attentionElements } = processorMemory;
/** Elements of logits from which, and at most how many, the loss is computed at a time: 64 MiB. */
export const logitElements = 1 << 24;

/** Limits for a batch's pass. Short batches get none: whole arrays are a little faster. */
export function arrayLimits(
  batch: ModelBatch,
  logits: { readonly rows: number; readonly vocabulary: number },
): ArrayLimits {
  const longest = Math.max(
    batch.sequenceLength,
    ...batch.pictures.map(({ grid }) => grid.time * grid.height * grid.width),
  );
  return {
    ...(longest > longRow ? { attention: attentionElements } : {}),
    ...(logits.rows * logits.vocabulary > logitElements ? { logits: logitElements } : {}),
  };
}
