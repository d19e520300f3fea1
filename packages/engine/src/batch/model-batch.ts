import type { ProcessedImage } from "../image/image-processor.ts";

/** One micro-batch as the models take it. B rows, T tokens (right padding), N visual tokens in all, patches in order of pictures. */
export interface ModelBatch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** `[B·T]`. */
  readonly inputIds: BigInt64Array;
  /** `[B·T]`: 1 = token, 0 = padding. */
  readonly attentionMask: Uint8Array;
  /** `[3, B, T]`: time, height, width. */
  readonly positionIds: Int32Array;
  /** `[B·T]`: the target predicted AT each position (already shifted), −100 = ignored. */
  readonly labels: Int32Array;
  /** `[patches, values of a patch]` of all pictures. */
  readonly pixelPatches: Float32Array;
  /** The pictures in order of rows, and in a row in order of their marks. */
  readonly pictures: readonly BatchPicture[];
  /** `[N]`: row in `B·T` of each visual token, in order of pictures. */
  readonly imageRows: Int32Array;
}

/** One picture of a batch. */
export interface BatchPicture extends Pick<ProcessedImage, "grid" | "tokens" | "tiling"> {
  /** Row of the batch that it belongs to. */
  readonly row: number;
}
