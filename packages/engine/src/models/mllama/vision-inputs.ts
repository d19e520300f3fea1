import { InvalidError } from "@drydock/kit";
import type { BatchPicture, ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product } from "../../graph/shape.ts";
import type { Feeds } from "../../runtime/feeds.ts";
import type { MllamaVisionConfig } from "./config.ts";

/** Rows of a tile: class token, patches, and padding to a multiple of 8. */
export function rowsOfTile({ side }: Pick<MllamaVisionConfig, "side">): number {
  return Math.ceil((1 + side ** 2) / 8) * 8;
}

/** Graph inputs of the tower. Symbols: I pictures. Shapes: M tiles a picture, P patches a tile, L rows of a padded tile. */
export interface VisionInputs {
  /** `[I·M·P, channels·patch²]`, 0 in tiles that the picture does not have. */
  readonly patches: Node;
  /** `[I]` int64: which tiling each picture has, counted from 1. */
  readonly tilings: Node;
  /** `[I·M·P]` int64: row of each patch among those of tiles with a class token. */
  readonly patchRows: Node;
  /** `[I·M·(1 + P)]` int64: rows of padded tiles that are class token or patch. */
  readonly seenRows: Node;
  /** `[I, M·L]`: see `Reach`. Queries of padding do not see keys of padding, all else is seen. */
  readonly reach: Node;
  readonly order: Node;
}

export function visionInputs(graph: GraphBuilder, config: MllamaVisionConfig): VisionInputs {
  const { tiles, side, channels, patchSize } = config;
  const patches = product(["I", tiles, side ** 2]);
  const rows = tiles * rowsOfTile(config);
  return {
    patches: graph.input("patches", [patches, channels * patchSize ** 2]),
    tilings: graph.input("tilings", ["I"], "int64"),
    patchRows: graph.input("patch-rows", [patches], "int64"),
    seenRows: graph.input("seen-rows", [product(["I", tiles, 1 + side ** 2])], "int64"),
    reach: graph.input("vision-reach", ["I", rows]),
    order: graph.input("vision-order", ["I", rows]),
  };
}

/** Feeds of the tower. @throws InvalidError when a picture is not cut as the model takes it */
export function visionFeeds(config: MllamaVisionConfig, batch: ModelBatch): Feeds {
  const { tiles, side, channels, patchSize } = config;
  const pictures = batch.pictures.length;
  const patches = side ** 2;
  const padded = rowsOfTile(config);
  const values = channels * patchSize ** 2;
  const pixels = new Float32Array(pictures * tiles * patches * values);
  const tilings = new BigInt64Array(pictures);
  const patchRows = new BigInt64Array(pictures * tiles * patches);
  const seenRows = new BigInt64Array(pictures * tiles * (1 + patches));
  const order = new Float32Array(pictures * tiles * padded).fill(1);
  let source = 0;
  batch.pictures.forEach((picture, index) => {
    tilings[index] = BigInt(tilingId(config, picture));
    const used = picture.grid.time * patches * values;
    pixels.set(batch.pixelPatches.subarray(source, source + used), index * tiles * patches * values);
    source += used;
    for (let tile = index * tiles; tile < index * tiles + picture.grid.time; tile++)
      order.fill(0, tile * padded, tile * padded + 1 + patches);
  });
  if (source !== batch.pixelPatches.length)
    throw new InvalidError(
      "image_size_mismatch",
      `the batch holds ${batch.pixelPatches.length} pixel values, but its pictures take ${source}`,
    );
  for (let at = 0; at < patchRows.length; at++) patchRows[at] = BigInt(at + Math.floor(at / patches) + 1);
  for (let at = 0; at < seenRows.length; at++)
    seenRows[at] = BigInt(Math.floor(at / (1 + patches)) * padded + (at % (1 + patches)));
  const rowsShape = [pictures, tiles * padded];
  return {
    patches: { data: pixels, shape: [pictures * tiles * patches, values] },
    tilings: { data: tilings, shape: [pictures] },
    "patch-rows": { data: patchRows, shape: [patchRows.length] },
    "seen-rows": { data: seenRows, shape: [seenRows.length] },
    "vision-reach": { data: order.map((isPadding) => 1 - isPadding), shape: rowsShape },
    "vision-order": { data: order, shape: rowsShape },
  };
}

function tilingId({ side, tilings }: MllamaVisionConfig, { grid, tiling }: BatchPicture): number {
  if (grid.height !== side || grid.width !== side)
    throw new InvalidError(
      "image_size_mismatch",
      `a picture is cut into tiles of ${grid.width} by ${grid.height} patches, but the model's tower takes ${side} by ${side}; use the preprocessor_config.json that came with the model`,
    );
  const index = tilings.findIndex(([rows, columns]) => rows === tiling?.rows && columns === tiling.columns);
  if (index < 0 || tiling?.rows === undefined || tiling.rows * tiling.columns !== grid.time)
    throw new InvalidError(
      "image_size_mismatch",
      `a picture is cut into ${grid.time} tiles, ${tiling ? `${tiling.rows} rows of ${tiling.columns}` : "laid out nowhere"}, which is none of the model's supported_aspect_ratios; use the preprocessor_config.json that came with the model`,
    );
  return index + 1;
}
