import type { ProcessedImage } from "../image/image-processor.ts";

/** A conversation as numbers, before it is padded into a batch. */
export interface EncodedRow {
  /** What messages call the row. */
  readonly name: string;
  readonly inputIds: readonly number[];
  /** Target predicted at each position, −100 = not trained. */
  readonly labels: readonly number[];
  readonly images: readonly ProcessedImage[];
  /** Indices of the visual tokens of each picture. */
  readonly imagePositions: readonly (readonly number[])[];
}
