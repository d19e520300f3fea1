import type { ModelBatch } from "../batch/model-batch.ts";

/** Runs a model over prompts and over the tokens that follow them. */
export interface AnswerPasses {
  /** Logits `[B·T, vocabulary]` of every position, padding included. */
  logits(batch: ModelBatch): Promise<Float32Array>;
  /** The pass over the prompts of a batch, whose rows will be continued by at most `maxNewTokens` tokens. */
  begin(batch: ModelBatch, maxNewTokens: number): Promise<Continuation>;
  close(): Promise<void>;
}

/** A batch that is being continued, with what its passes left. */
export interface Continuation {
  /** `[B, vocabulary]` of the last token of each prompt. */
  readonly logits: Float32Array;
  /** Takes one further token a row, null for rows that have ended; answers their logits `[B, vocabulary]`. */
  next(tokens: readonly (number | null)[]): Promise<Float32Array>;
  /** Gives its memory back. */
  end(): Promise<void>;
}

/** Tokens of each row. */
export function promptLengths(batch: ModelBatch): number[] {
  return Array.from({ length: batch.batchSize }, (_, row) =>
    batch.attentionMask
      .subarray(row * batch.sequenceLength, (row + 1) * batch.sequenceLength)
      .reduce((sum, bit) => sum + bit, 0),
  );
}

/** Position in `[B·T]` of the last token of each row. */
export function lastRows(batch: ModelBatch): BigInt64Array {
  return BigInt64Array.from(promptLengths(batch), (length, row) => BigInt(row * batch.sequenceLength + length - 1));
}
