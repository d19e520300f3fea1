/** A graph input with its values. */
export interface FeedTensor {
  readonly data: Float32Array | BigInt64Array | Uint8Array;
  readonly shape: readonly number[];
}
export type Feeds = Record<string, FeedTensor>;
/** Values of the symbols of the graph's shapes. */
export type Symbols = Record<string, number>;
