import { readFloatTensors, readSafetensorsHeader, readTensorBytes, type ModelBatch } from "@drydock/engine";

/** Reads the batch that `writeTrainCase` wrote. */
export async function readTrainBatch(path: string): Promise<ModelBatch> {
  const header = await readSafetensorsHeader(path);
  const integers = async (name: string): Promise<BigInt64Array> =>
    new BigInt64Array((await readTensorBytes(header, name)).slice().buffer);
  const [batchSize = 0, sequenceLength = 0] = header.tensors.get("input_ids")?.shape ?? [];
  const inputIds = await integers("input_ids");
  const kinds = await integers("mm_token_type_ids");
  const targets = await integers("labels");
  const grids = await integers("image_grid_thw");
  const visual = [...kinds.keys()].filter((index) => kinds[index] === 1n);
  const isLast = (index: number): boolean => index % sequenceLength === sequenceLength - 1;
  return {
    batchSize,
    sequenceLength,
    inputIds,
    attentionMask: Uint8Array.from(await integers("attention_mask"), Number),
    positionIds: Int32Array.from(await integers("position_ids"), Number),
    labels: Int32Array.from(targets, (_, index) => (isLast(index) ? -100 : Number(targets[index + 1]))),
    pixelPatches: (await readFloatTensors(header, ["pixel_values"])).get("pixel_values") as Float32Array,
    // One picture a row.
    pictures: Array.from({ length: grids.length / 3 }, (_, row) => ({
      grid: {
        time: Number(grids[3 * row]),
        height: Number(grids[3 * row + 1]),
        width: Number(grids[3 * row + 2]),
      },
      tokens: visual.length / (grids.length / 3),
      row,
    })),
    imageRows: Int32Array.from(visual),
  };
}
