import type { ModelBatch } from "@drydock/engine";
import type { DataRecord } from "@drydock/spec";

/** Turns records into what the model takes, and tokens back into text. */
export interface RecordEncoder {
  /** Rows of one micro-batch, questions with their answers, labels on the answers. */
  trainingBatch(records: readonly DataRecord[]): Promise<ModelBatch>;
  /** The same without the answers, ready to be continued. */
  questionBatch(records: readonly DataRecord[]): Promise<ModelBatch>;
  decode(tokenIds: readonly number[]): string;
  /** Tokens that end an answer. */
  readonly stopTokenIds: readonly number[];
}
