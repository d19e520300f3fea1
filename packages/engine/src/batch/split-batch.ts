import type { BatchPicture, ModelBatch } from "./model-batch.ts";

/** Some rows of a batch, as a batch of their own with the same padding. */
export interface BatchPart {
  readonly batch: ModelBatch;
  /** Position of its first row in the whole. */
  readonly firstRow: number;
}

/** Cuts a batch into at most `count` parts of consecutive rows, as equal as they can be, each with its pictures. */
export function splitBatch(batch: ModelBatch, count: number): BatchPart[] {
  const size = Math.ceil(batch.batchSize / count);
  const starts = Array.from({ length: Math.ceil(batch.batchSize / size) }, (_, index) => index * size);
  if (starts.length <= 1) return [{ batch, firstRow: 0 }];
  const pictures = placePictures(batch);
  return starts.map((firstRow) => ({ batch: rowsOf(batch, firstRow, firstRow + size, pictures), firstRow }));
}

interface PlacedPicture {
  readonly picture: BatchPicture;
  readonly patches: Float32Array;
  /** Positions of its visual tokens in the whole batch. */
  readonly positions: Int32Array;
}

function placePictures({ pictures, imageRows, pixelPatches }: ModelBatch): PlacedPicture[] {
  const counts = pictures.map(({ grid }) => grid.time * grid.height * grid.width);
  const patchWidth = pixelPatches.length / counts.reduce((sum, patches) => sum + patches, 0);
  let [firstPatch, firstToken] = [0, 0];
  return pictures.map((picture, index) => {
    const end = firstPatch + (counts[index] as number);
    const placed = {
      picture,
      patches: pixelPatches.subarray(firstPatch * patchWidth, end * patchWidth),
      positions: imageRows.subarray(firstToken, firstToken + picture.tokens),
    };
    firstPatch = end;
    firstToken += picture.tokens;
    return placed;
  });
}

function rowsOf(batch: ModelBatch, first: number, end: number, placed: readonly PlacedPicture[]): ModelBatch {
  const { sequenceLength: tokens, batchSize } = batch;
  const last = Math.min(end, batchSize);
  const rows = last - first;
  const own = placed.filter(({ picture: { row } }) => row >= first && row < last);
  const positionIds = new Int32Array(3 * rows * tokens);
  for (let axis = 0; axis < 3; axis++) {
    const start = (axis * batchSize + first) * tokens;
    positionIds.set(batch.positionIds.subarray(start, start + rows * tokens), axis * rows * tokens);
  }
  const pixelPatches = new Float32Array(own.reduce((sum, { patches }) => sum + patches.length, 0));
  let written = 0;
  for (const { patches } of own) {
    pixelPatches.set(patches, written);
    written += patches.length;
  }
  return {
    batchSize: rows,
    sequenceLength: tokens,
    inputIds: batch.inputIds.subarray(first * tokens, last * tokens),
    attentionMask: batch.attentionMask.subarray(first * tokens, last * tokens),
    positionIds,
    labels: batch.labels.subarray(first * tokens, last * tokens),
    pixelPatches,
    pictures: own.map(({ picture }) => ({ ...picture, row: picture.row - first })),
    imageRows: Int32Array.from(own.flatMap(({ positions }) => [...positions].map((row) => row - first * tokens))),
  };
}
