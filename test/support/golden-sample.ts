import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import {
  readFloatTensors,
  readSafetensorsHeader,
  readTensorBytes,
  type AnswerGenerator,
  type ModelBatch,
} from "@drydock/engine";

/** The inputs of one golden model as a batch, and as one batch a row. */
export interface GoldenSample {
  readonly directory: string;
  readonly modelDirectory: string;
  readonly adapterDirectory: string;
  readonly batch: ModelBatch;
  readonly rows: readonly ModelBatch[];
  readonly logits: Float32Array;
  /** Greedy answer of one row by whole passes over the growing row. */
  greedyWithoutCache(generator: AnswerGenerator, row: number, tokens: number): Promise<number[]>;
}

export async function goldenSample(shape: string): Promise<GoldenSample> {
  const directory = resolve(import.meta.dirname, "../golden/qwen3-vl", shape);
  const header = await readSafetensorsHeader(join(directory, "sample.safetensors"));
  const integers = async (name: string): Promise<number[]> =>
    Array.from(new BigInt64Array((await readTensorBytes(header, name)).slice().buffer), Number);
  const config = JSON.parse(await readFile(join(directory, "model", "config.json"), "utf8")) as {
    image_token_id: number;
  };
  const [batchSize = 0, sequenceLength = 0] = header.tensors.get("input_ids")?.shape ?? [];
  const labels = await integers("labels");
  const grids = await integers("image_grid_thw");
  const inputIds = await integers("input_ids");
  const floats = await readFloatTensors(header, ["pixel_values", "logits"]);
  const batch: ModelBatch = {
    batchSize,
    sequenceLength,
    inputIds: BigInt64Array.from(inputIds, BigInt),
    attentionMask: Uint8Array.from(await integers("attention_mask")),
    positionIds: Int32Array.from(await integers("position_ids")),
    labels: Int32Array.from(labels, (_, index) =>
      (index + 1) % sequenceLength === 0 ? -100 : (labels[index + 1] as number),
    ),
    pixelPatches: floats.get("pixel_values") as Float32Array,
    pictures: [0, 3].map((start, row) => {
      const [time = 0, height = 0, width = 0] = grids.slice(start);
      return { grid: { time, height, width }, tokens: (time * height * width) / 4, row };
    }),
    imageRows: Int32Array.from(inputIds.flatMap((id, row) => (id === config.image_token_id ? [row] : []))),
  };
  const rows = Array.from({ length: batchSize }, (_, row) => rowOf(batch, row));
  return {
    directory,
    modelDirectory: join(directory, "model"),
    adapterDirectory: join(directory, "adapter"),
    batch,
    rows,
    logits: floats.get("logits") as Float32Array,
    greedyWithoutCache: async (generator, row, tokens) => await greedy(generator, rows[row] as ModelBatch, tokens),
  };
}

/** One row of a batch as a batch of its own, without its padding. The golden rows have their pictures in row order. */
function rowOf(batch: ModelBatch, row: number): ModelBatch {
  const { sequenceLength } = batch;
  const start = row * sequenceLength;
  const length = batch.attentionMask.subarray(start, start + sequenceLength).reduce((sum, bit) => sum + bit, 0);
  const picture = batch.pictures[row];
  const patchesBefore = batch.pictures.slice(0, row).reduce((sum, { grid }) => sum + grid.height * grid.width, 0);
  const patches = picture ? picture.grid.height * picture.grid.width : 0;
  const patchSize =
    batch.pixelPatches.length / batch.pictures.reduce((sum, { grid }) => sum + grid.height * grid.width, 0);
  return {
    batchSize: 1,
    sequenceLength: length,
    inputIds: batch.inputIds.slice(start, start + length),
    attentionMask: new Uint8Array(length).fill(1),
    positionIds: Int32Array.from(
      [0, 1, 2].flatMap((axis) => [
        ...batch.positionIds.subarray((axis * batch.batchSize + row) * sequenceLength).subarray(0, length),
      ]),
    ),
    labels: batch.labels.slice(start, start + length),
    pixelPatches: batch.pixelPatches.slice(patchesBefore * patchSize, (patchesBefore + patches) * patchSize),
    pictures: picture ? [{ ...picture, row: 0 }] : [],
    imageRows: batch.imageRows
      .filter((position) => position >= start && position < start + sequenceLength)
      .map((position) => position - start),
  };
}

async function greedy(generator: AnswerGenerator, row: ModelBatch, tokens: number): Promise<number[]> {
  const answer: number[] = [];
  let batch = row;
  for (let step = 0; step < tokens; step++) {
    const logits = await generator.logits(batch);
    const width = logits.length / batch.sequenceLength;
    const last = logits.subarray(logits.length - width);
    const next = last.indexOf(Math.max(...last));
    answer.push(next);
    batch = appended(batch, next);
  }
  return answer;
}

function appended(batch: ModelBatch, token: number): ModelBatch {
  const length = batch.sequenceLength;
  const position = Math.max(...batch.positionIds) + 1;
  return {
    ...batch,
    sequenceLength: length + 1,
    inputIds: BigInt64Array.from([...batch.inputIds, BigInt(token)]),
    attentionMask: new Uint8Array(length + 1).fill(1),
    positionIds: Int32Array.from(
      [0, 1, 2].flatMap((axis) => [...batch.positionIds.subarray(axis * length, (axis + 1) * length), position]),
    ),
    labels: new Int32Array(length + 1).fill(-100),
  };
}
