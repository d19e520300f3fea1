import type { ModelBatch } from "../batch/model-batch.ts";

export type MicroBatches = Iterable<ModelBatch> | AsyncIterable<ModelBatch>;

/** What the micro-batches of a step added up to on this rank. */
export interface StepSums {
  /** Zero on a rank that another one computes the loss for. */
  readonly lossSum: number;
  readonly labelTokens: number;
  /** False when no row had a label: the gradients are not those of this step then. */
  readonly hasGradients: boolean;
}

/** Sums the gradients of a step's micro-batches. */
export interface GradientSource {
  /**
   * @param firstRow   position of the first row in the global batch
   * @param completed  told the weights whose sums are final, where that is known before the end
   */
  run(microBatches: MicroBatches, firstRow: number, completed: (names: readonly string[]) => void): Promise<StepSums>;
  close(): Promise<void>;
}

/** Says of each item whether it is the only one and whether it is the last, which asks for one item ahead. */
export async function* markLast<T>(
  items: Iterable<T> | AsyncIterable<T>,
): AsyncGenerator<{ readonly item: T; readonly isOnly: boolean; readonly isLast: boolean }> {
  let held: { item: T } | null = null;
  let count = 0;
  for await (const item of items) {
    if (held) yield { ...held, isOnly: false, isLast: false };
    held = { item };
    count++;
  }
  if (held) yield { ...held, isOnly: count === 1, isLast: true };
}
