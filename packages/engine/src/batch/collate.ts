import type { Model } from "../models/model.ts";
import type { EncodedRow } from "./encoded-row.ts";
import type { ModelBatch } from "./model-batch.ts";

/**
 * Pads rows on the right to one batch.
 *
 * @param paddingId  any id of the vocabulary; padding is masked
 */
export function collate(rows: readonly EncodedRow[], model: Pick<Model, "positions">, paddingId = 0): ModelBatch {
  const batchSize = rows.length;
  const sequenceLength = Math.max(...rows.map(({ inputIds }) => inputIds.length));
  const inputIds = new BigInt64Array(batchSize * sequenceLength).fill(BigInt(paddingId));
  const attentionMask = new Uint8Array(batchSize * sequenceLength);
  const labels = new Int32Array(batchSize * sequenceLength).fill(-100);
  const positionIds = new Int32Array(3 * batchSize * sequenceLength);
  rows.forEach((row, index) => {
    const start = index * sequenceLength;
    row.inputIds.forEach((id, position) => (inputIds[start + position] = BigInt(id)));
    attentionMask.fill(1, start, start + row.inputIds.length);
    labels.set(row.labels, start);
    model.positions(row).forEach((axis, at) => positionIds.set(axis, (at * batchSize + index) * sequenceLength));
  });
  return {
    batchSize,
    sequenceLength,
    inputIds,
    attentionMask,
    positionIds,
    labels,
    pixelPatches: joinPatches(rows.flatMap(({ images }) => images.map(({ patches }) => patches))),
    pictures: rows.flatMap(({ images }, row) =>
      images.map(({ grid, tokens, tiling }) => ({ grid, tokens, row, ...(tiling ? { tiling } : {}) })),
    ),
    imageRows: Int32Array.from(
      rows.flatMap(({ imagePositions }, row) =>
        imagePositions.flat().map((position) => row * sequenceLength + position),
      ),
    ),
  };
}

function joinPatches(parts: readonly Float32Array[]): Float32Array {
  const joined = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    joined.set(part, offset);
    offset += part.length;
  }
  return joined;
}
