import { expect, test } from "vitest";
import type { ModelBatch } from "./model-batch.ts";
import { splitBatch } from "./split-batch.ts";

/** Three rows of four tokens; two pictures in the first row, none in the second, one in the third. Two numbers a patch. */
const batch: ModelBatch = {
  batchSize: 3,
  sequenceLength: 4,
  inputIds: BigInt64Array.from({ length: 12 }, (_, index) => BigInt(index)),
  attentionMask: new Uint8Array(12).fill(1),
  positionIds: Int32Array.from({ length: 36 }, (_, index) => index),
  labels: Int32Array.from({ length: 12 }, (_, index) => -index),
  pixelPatches: Float32Array.from({ length: 32 }, (_, index) => index),
  pictures: [
    { grid: { time: 1, height: 2, width: 2 }, tokens: 1, row: 0 },
    { grid: { time: 1, height: 2, width: 2 }, tokens: 1, row: 0 },
    { grid: { time: 1, height: 4, width: 2 }, tokens: 2, row: 2 },
  ],
  imageRows: Int32Array.of(0, 2, 9, 10),
};

test("each part has its rows, positions and pictures", () => {
  const parts = splitBatch(batch, 2);
  expect(parts.map(({ firstRow }) => firstRow)).toEqual([0, 2]);
  const [first, second] = parts.map((part) => part.batch) as [ModelBatch, ModelBatch];
  expect([first.batchSize, second.batchSize]).toEqual([2, 1]);
  expect([...second.inputIds]).toEqual([8n, 9n, 10n, 11n]);
  expect([...second.positionIds]).toEqual([8, 9, 10, 11, 20, 21, 22, 23, 32, 33, 34, 35]);
  expect(first.pictures).toEqual(batch.pictures.slice(0, 2));
  expect([...first.pixelPatches]).toEqual([...batch.pixelPatches.subarray(0, 16)]);
  expect([...second.pixelPatches]).toEqual([...batch.pixelPatches.subarray(16)]);
  expect([...first.imageRows]).toEqual([0, 2]);
  expect([...second.imageRows]).toEqual([1, 2]);
});

test("a batch of one row, or one without pictures, is cut as well as it can be", () => {
  const text = { ...batch, pixelPatches: new Float32Array(0), pictures: [], imageRows: new Int32Array(0) };
  expect(splitBatch(text, 2).map((part) => part.batch.pictures)).toEqual([[], []]);
  const [first] = splitBatch(text, 3);
  expect(splitBatch((first as { batch: ModelBatch }).batch, 2)).toHaveLength(1);
});
