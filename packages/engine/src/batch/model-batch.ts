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
  /** `[patches, channels·time·patch²]` of all pictures, in merge-block order. */
  readonly pixelPatches: Float32Array;
  /** Patches of each picture: time, height, width. */
  readonly imageGrids: readonly { readonly time: number; readonly height: number; readonly width: number }[];
  /** `[N]`: row in `B·T` of each visual token, in order of pictures and cells. */
  readonly imageRows: Int32Array;
}
