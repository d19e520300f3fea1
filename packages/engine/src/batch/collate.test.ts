import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import type { ProcessedImage } from "../image/image-processor.ts";
import { gridPositions } from "../models/parts/grid-positions.ts";
import { readSafetensorsHeader, readTensorBytes } from "../weights/safetensors.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import { collate } from "./collate.ts";
import type { EncodedRow } from "./encoded-row.ts";

/** The golden batch taken apart into rows: ids without padding, pictures as grids and patches. */
async function goldenRows(shape: string) {
  const directory = resolve(import.meta.dirname, "../../../../test/golden/qwen3-vl", shape);
  const header = await readSafetensorsHeader(join(directory, "sample.safetensors"));
  const integers = async (name: string): Promise<number[]> =>
    Array.from(new BigInt64Array((await readTensorBytes(header, name)).slice().buffer), Number);
  const config = JSON.parse(await readFile(join(directory, "model/config.json"), "utf8")) as { image_token_id: number };
  const [batchSize = 0, length = 0] = header.tensors.get("input_ids")?.shape ?? [];
  const [ids, mask, labels, grids, positions] = (await Promise.all(
    ["input_ids", "attention_mask", "labels", "image_grid_thw", "position_ids"].map(integers),
  )) as [number[], number[], number[], number[], number[]];
  const pixels = (await readFloatTensors(header, ["pixel_values"])).get("pixel_values") as Float32Array;
  const rowSize = header.tensors.get("pixel_values")?.shape[1] ?? 0;
  let patches = 0;
  let pictures = 0;
  const rows = Array.from({ length: batchSize }, (_, row): EncodedRow => {
    const used = mask.slice(row * length, (row + 1) * length).filter((bit) => bit === 1).length;
    const inputIds = ids.slice(row * length, row * length + used);
    const own = labels.slice(row * length, row * length + used);
    const start = inputIds.indexOf(config.image_token_id);
    const images: ProcessedImage[] = [];
    if (start >= 0) {
      const [time = 0, height = 0, width = 0] = grids.slice(3 * pictures++);
      const count = time * height * width;
      images.push({
        patches: pixels.slice(patches * rowSize, (patches += count) * rowSize),
        grid: { time, height, width },
        tokens: count / 4,
        resized: { width: 0, height: 0 },
      });
    }
    return {
      name: `row ${row}`,
      inputIds,
      labels: own.map((_label, position) => own[position + 1] ?? -100),
      images,
      imagePositions: images.map(({ tokens }) => Array.from({ length: tokens }, (_, token) => start + token)),
    };
  });
  return { rows, ids, mask, positions, pixels, labels, imageTokenId: config.image_token_id };
}

describe.each(["tied", "untied"])("the %s golden batch, put together from its rows", (shape) => {
  test("has the ids, mask, targets and patches of the reference", async () => {
    const { rows, ids, mask, pixels, labels, imageTokenId } = await goldenRows(shape);
    const batch = collate(rows, { positions: (row) => gridPositions(row, 2) });
    expect([...batch.inputIds].map(Number)).toEqual(ids);
    expect([...batch.attentionMask]).toEqual(mask);
    const targets = labels.map((_, index) => ((index + 1) % batch.sequenceLength === 0 ? -100 : labels[index + 1]));
    expect([...batch.labels]).toEqual(targets);
    expect(batch.pixelPatches).toEqual(pixels);
    expect([...batch.imageRows]).toEqual(ids.flatMap((id, index) => (id === imageTokenId ? [index] : [])));
  });

  test("has the positions of the reference wherever there is a token", async () => {
    const { rows, mask, positions } = await goldenRows(shape);
    const batch = collate(rows, { positions: (row) => gridPositions(row, 2) });
    const whereTokens = (values: ArrayLike<number>): number[] =>
      Array.from(values).filter((_, index) => mask[index % mask.length] === 1);
    expect(whereTokens(batch.positionIds)).toEqual(whereTokens(positions));
  });
});
