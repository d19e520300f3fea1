import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Feeds, Symbols } from "../../runtime/feeds.ts";
import { masked } from "../parts/text-inputs.ts";
import type { QwenVisionConfig } from "./config.ts";
import { gridTables, type GridTables } from "./grid-tables.ts";
import type { VisionInputs } from "./vision-tower.ts";

/** The inputs of the image tower. Symbols: I pictures, Q merged cells of the longest one. */
export function visionInputs(graph: GraphBuilder, config: QwenVisionConfig): VisionInputs {
  const block = config.mergeSize ** 2;
  const rows = `${block}*I*Q`;
  const half = config.hiddenSize / config.heads / 2;
  return {
    patches: graph.input("patches", [rows, config.channels * config.temporalPatchSize * config.patchSize ** 2]),
    positionTaps: graph.input("position-taps", [`${4 * block}*I*Q`], "int64"),
    positionWeights: graph.input("position-weights", [4, rows, 1]),
    cos: graph.input("vision-cos", ["I", `${block}*Q`, half]),
    sin: graph.input("vision-sin", ["I", `${block}*Q`, half]),
    mask: graph.input("vision-mask", ["I", 1, 1, `${block}*Q`]),
  };
}

/**
 * Feeds of the image part: `patches`, `position-taps`, `position-weights`, `vision-cos`, `vision-sin`, `vision-mask`,
 * `feature-rows`, `image-rows`. Pictures are padded to the longest one.
 *
 * @throws InvalidError when the visual tokens do not match the pictures
 */
export function visionFeeds(config: QwenVisionConfig, batch: ModelBatch): Feeds {
  const block = config.mergeSize ** 2;
  const pictures = batch.pictures.length;
  const counts = batch.pictures.map(({ grid }) => grid.time * grid.height * grid.width);
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
  batch.pictures.forEach(({ grid }, picture) => {
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

/** Symbols of a batch with pictures: I (pictures), Q (cells of the longest), N (visual tokens). */
export function visionSymbols({ mergeSize }: Pick<QwenVisionConfig, "mergeSize">, batch: ModelBatch): Symbols {
  const longest = Math.max(...batch.pictures.map(({ grid }) => grid.time * grid.height * grid.width));
  return { I: batch.pictures.length, Q: longest / mergeSize ** 2, N: batch.imageRows.length };
}
