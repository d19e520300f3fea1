import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../../batch/model-batch.ts";
import type { Qwen3VlConfig } from "./config.ts";
import { gridTables, type GridTables } from "./grid-tables.ts";

/** A graph input with its values. */
export interface FeedTensor {
  readonly data: Float32Array | BigInt64Array;
  readonly shape: readonly number[];
}
export type Feeds = Record<string, FeedTensor>;
/** Values of the symbols of the graph's shapes. */
export type Symbols = Record<string, number>;

const masked = -3.4028234663852886e38 / 2;

/** Feeds of the text part: `ids`, `cos`, `sin`, `mask`. */
export function textFeeds(config: Qwen3VlConfig["text"], batch: ModelBatch): Feeds {
  const { batchSize, sequenceLength } = batch;
  const half = config.headSize / 2;
  const { cos, sin } = ropeTables(config, batch.positionIds, batchSize * sequenceLength);
  return {
    ids: { data: batch.inputIds, shape: [batchSize * sequenceLength] },
    cos: { data: cos, shape: [batchSize, sequenceLength, half] },
    sin: { data: sin, shape: [batchSize, sequenceLength, half] },
    mask: { data: causalMask(batch), shape: [batchSize, 1, sequenceLength, sequenceLength] },
  };
}

/**
 * Cosines and sines `[rows, headSize/2]` of interleaved M-RoPE.
 *
 * @param positions  `[3, rows]`: time, height, width
 * Angles are products rounded to fp32, as the reference has them (`Qwen3VLTextRotaryEmbedding`).
 */
export function ropeTables(
  config: Qwen3VlConfig["text"],
  positions: Int32Array,
  rows: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = config.headSize / 2;
  const frequencies = Float32Array.from(
    { length: half },
    (_, slot) => 1 / Math.fround(config.ropeTheta ** (slot / half)),
  );
  const axes = Array.from({ length: half }, (_, slot) => axisOf(slot, config.mropeSection));
  const cos = new Float32Array(rows * half);
  const sin = new Float32Array(rows * half);
  for (let row = 0; row < rows; row++) {
    for (let slot = 0; slot < half; slot++) {
      const angle = Math.fround(
        (positions[(axes[slot] as number) * rows + row] as number) * (frequencies[slot] as number),
      );
      cos[row * half + slot] = Math.cos(angle);
      sin[row * half + slot] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

/** Which axis feeds a frequency slot: height at 1, 4, 7 …, width at 2, 5, 8 …, time elsewhere. */
function axisOf(slot: number, [, height, width]: readonly [number, number, number]): 0 | 1 | 2 {
  if (slot % 3 === 1 && slot < 3 * height) return 1;
  if (slot % 3 === 2 && slot < 3 * width) return 2;
  return 0;
}

/** `[B, 1, T, T]`: 0 where the key is a token at or before the query, else a large negative number. */
function causalMask({ batchSize, sequenceLength, attentionMask }: ModelBatch): Float32Array {
  const mask = new Float32Array(batchSize * sequenceLength * sequenceLength).fill(masked);
  for (let row = 0; row < batchSize; row++) {
    for (let query = 0; query < sequenceLength; query++) {
      const start = (row * sequenceLength + query) * sequenceLength;
      for (let key = 0; key <= query; key++) if (attentionMask[row * sequenceLength + key]) mask[start + key] = 0;
    }
  }
  return mask;
}

/**
 * Feeds of the image part: `patches`, `position-taps`, `position-weights`, `vision-cos`, `vision-sin`, `vision-mask`,
 * `feature-rows`, `image-rows`. Pictures are padded to the longest one.
 *
 * @throws InvalidError when the visual tokens do not match the pictures
 */
export function visionFeeds(config: Qwen3VlConfig["vision"], batch: ModelBatch): Feeds {
  const block = config.mergeSize ** 2;
  const pictures = batch.imageGrids.length;
  const counts = batch.imageGrids.map(({ time, height, width }) => time * height * width);
  const cells = Math.max(...counts) / block;
  const padded = cells * block;
  const patchSize = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  const visible = counts.reduce((sum, count) => sum + count / block, 0);
  if (visible !== batch.imageRows.length)
    throw new InvalidError(
      "image_tokens_mismatch",
      `the batch has ${batch.imageRows.length} image tokens but its pictures give ${visible}`,
    );

  const patches = new Float32Array(pictures * padded * patchSize);
  const mask = new Float32Array(pictures * padded).fill(masked);
  const taps = new BigInt64Array(4 * pictures * padded);
  const weights = new Float32Array(4 * pictures * padded);
  const half = config.hiddenSize / config.heads / 2;
  const cos = new Float32Array(pictures * padded * half).fill(1);
  const sin = new Float32Array(pictures * padded * half);
  const featureRows = new BigInt64Array(visible);
  const known = new Map<string, GridTables>();
  let source = 0;
  let feature = 0;
  batch.imageGrids.forEach((grid, picture) => {
    const count = counts[picture] as number;
    const start = picture * padded;
    patches.set(batch.pixelPatches.subarray(source * patchSize, (source + count) * patchSize), start * patchSize);
    mask.fill(0, start, start + count);
    source += count;
    for (let cell = 0; cell < count / block; cell++) featureRows[feature++] = BigInt(picture * cells + cell);
    const key = `${grid.time}x${grid.height}x${grid.width}`;
    const tables = known.get(key) ?? gridTables(config, grid);
    known.set(key, tables);
    tables.taps.forEach((tap, index) => {
      taps.set(tap.rows, index * pictures * padded + start);
      weights.set(tap.weights, index * pictures * padded + start);
    });
    cos.set(tables.cos, start * half);
    sin.set(tables.sin, start * half);
  });
  const ropeShape = [pictures, padded, half];
  return {
    patches: { data: patches, shape: [pictures * padded, patchSize] },
    "position-taps": { data: taps, shape: [4 * pictures * padded] },
    "position-weights": { data: weights, shape: [4, pictures * padded, 1] },
    "vision-cos": { data: cos, shape: ropeShape },
    "vision-sin": { data: sin, shape: ropeShape },
    "vision-mask": { data: mask, shape: [pictures, 1, 1, padded] },
    "feature-rows": { data: featureRows, shape: [visible] },
    "image-rows": { data: BigInt64Array.from(batch.imageRows, BigInt), shape: [visible] },
  };
}

/** Symbols of a batch: B, T, and with pictures I (pictures), Q (cells of the longest), N (visual tokens). */
export function batchSymbols(config: Qwen3VlConfig["vision"], batch: ModelBatch): Symbols {
  const symbols: Symbols = { B: batch.batchSize, T: batch.sequenceLength };
  if (batch.imageGrids.length === 0) return symbols;
  const longest = Math.max(...batch.imageGrids.map(({ time, height, width }) => time * height * width));
  return { ...symbols, I: batch.imageGrids.length, Q: longest / config.mergeSize ** 2, N: batch.imageRows.length };
}
