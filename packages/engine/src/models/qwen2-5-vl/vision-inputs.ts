import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { PatchGrid } from "../../image/image-processor.ts";
import type { Feeds, Symbols } from "../../runtime/feeds.ts";
import { patchPlaces } from "../parts/patch-places.ts";
import { masked, rotaryFrequencies } from "../parts/text-inputs.ts";
import type { WindowedVisionConfig } from "./config.ts";
import type { PatchGroups, VisionInputs } from "./vision-tower.ts";

const theta = 10000;

/** Symbols: N merged cells of all pictures, U windows, I pictures, Q cells of the longest. */
export function visionInputs(graph: GraphBuilder, config: WindowedVisionConfig): VisionInputs {
  const block = config.mergeSize ** 2;
  const half = config.hiddenSize / config.heads / 2;
  const groups = (name: string, count: string, patches: string | number): PatchGroups => ({
    cos: graph.input(`${name}-cos`, [count, patches, half]),
    sin: graph.input(`${name}-sin`, [count, patches, half]),
    mask: graph.input(`${name}-mask`, [count, 1, 1, patches]),
    places: graph.input(`${name}-places`, [`${block}*N`], "int64"),
  });
  return {
    patches: graph.input("patches", [`${block}*N`, patchValues(config)]),
    windows: groups("window", "U", windowPatches(config)),
    frames: groups("frame", "I", `${block}*Q`),
  };
}

/** Patches of a whole window. */
export function windowPatches({ windowCells, mergeSize }: WindowedVisionConfig): number {
  return windowCells ** 2 * mergeSize ** 2;
}

function patchValues(config: WindowedVisionConfig): number {
  return config.channels * config.temporalPatchSize * config.patchSize ** 2;
}

/** A group of patches that attend to each other: rows of all patches. */
type Group = readonly number[];

/**
 * Feeds of the image tower, `feature-rows` and `image-rows`.
 * @throws InvalidError when the visual tokens do not match the pictures
 */
export function visionFeeds(config: WindowedVisionConfig, batch: ModelBatch): Feeds {
  const { windows, frames, places } = groupsOf(config, batch);
  const cells = places.length / config.mergeSize ** 2;
  if (cells !== batch.imageRows.length)
    throw new InvalidError(
      "image_tokens_mismatch",
      `the batch has ${batch.imageRows.length} image tokens but its pictures give ${cells}`,
    );
  const longest = Math.max(...frames.map(({ length }) => length));
  return {
    patches: { data: batch.pixelPatches, shape: [places.length, patchValues(config)] },
    ...groupFeeds("window", windows, windowPatches(config), places, config),
    ...groupFeeds("frame", frames, longest, places, config),
    "feature-rows": { data: BigInt64Array.from({ length: cells }, (_, cell) => BigInt(cell)), shape: [cells] },
    "image-rows": { data: BigInt64Array.from(batch.imageRows, BigInt), shape: [cells] },
  };
}

export function visionSymbols(config: WindowedVisionConfig, batch: ModelBatch): Symbols {
  const { windows, frames, places } = groupsOf(config, batch);
  const block = config.mergeSize ** 2;
  return {
    N: places.length / block,
    U: windows.length,
    I: frames.length,
    Q: Math.max(...frames.map(({ length }) => length)) / block,
  };
}

/** Windows and frames of all pictures, and the (row, column) of each patch in its picture, in merge-block order. */
function groupsOf(
  config: WindowedVisionConfig,
  { pictures }: ModelBatch,
): { windows: Group[]; frames: Group[]; places: [number, number][] } {
  const windows: Group[] = [];
  const frames: Group[] = [];
  const places: [number, number][] = [];
  for (const { grid } of pictures) {
    for (let frame = 0; frame < grid.time; frame++) {
      const start = places.length;
      const own = patchPlaces({ ...grid, time: 1 }, config.mergeSize);
      places.push(...own);
      frames.push(own.map((_, index) => start + index));
      windows.push(...windowsOf(config, grid, start));
    }
  }
  return { windows, frames, places };
}

/** Windows of one frame, row by row; those at the right and at the bottom may be smaller. */
function windowsOf({ windowCells, mergeSize }: WindowedVisionConfig, grid: PatchGrid, start: number): Group[] {
  const block = mergeSize ** 2;
  const [rows, columns] = [grid.height / mergeSize, grid.width / mergeSize];
  const windows: Group[] = [];
  for (let top = 0; top < rows; top += windowCells)
    for (let left = 0; left < columns; left += windowCells) {
      const window: number[] = [];
      for (let row = top; row < Math.min(top + windowCells, rows); row++)
        for (let column = left; column < Math.min(left + windowCells, columns); column++)
          for (let patch = 0; patch < block; patch++) window.push(start + (row * columns + column) * block + patch);
      windows.push(window);
    }
  return windows;
}

/** Groups padded to `size` patches. */
function groupFeeds(
  name: string,
  groups: readonly Group[],
  size: number,
  places: readonly (readonly [number, number])[],
  config: WindowedVisionConfig,
): Feeds {
  const half = config.hiddenSize / config.heads / 2;
  const frequencies = rotaryFrequencies(theta, half / 2);
  const mask = new Float32Array(groups.length * size).fill(masked);
  const angles = new Float32Array(groups.length * size * half);
  const back = new BigInt64Array(places.length);
  groups.forEach((group, index) =>
    group.forEach((patch, position) => {
      const at = index * size + position;
      back[patch] = BigInt(at);
      mask[at] = 0;
      const [row, column] = places[patch] as readonly [number, number];
      frequencies.forEach((frequency, slot) => {
        angles[at * half + slot] = row * frequency;
        angles[at * half + half / 2 + slot] = column * frequency;
      });
    }),
  );
  const shape = [groups.length, size, half];
  return {
    [`${name}-cos`]: { data: angles.map(Math.cos), shape },
    [`${name}-sin`]: { data: angles.map(Math.sin), shape },
    [`${name}-mask`]: { data: mask, shape: [groups.length, 1, 1, size] },
    [`${name}-places`]: { data: back, shape: [back.length] },
  };
}
