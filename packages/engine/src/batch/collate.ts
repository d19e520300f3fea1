import type { EncodedRow } from "./conversation-encoder.ts";
import type { ModelBatch } from "./model-batch.ts";

/**
 * Pads rows on the right to one batch.
 *
 * @param paddingId  any id of the vocabulary; padding is masked
 */
export function collate(rows: readonly EncodedRow[], mergeSize: number, paddingId = 0): ModelBatch {
  const batchSize = rows.length;
  const sequenceLength = Math.max(...rows.map(({ inputIds }) => inputIds.length));
  const inputIds = new BigInt64Array(batchSize * sequenceLength).fill(BigInt(paddingId));
  const attentionMask = new Uint8Array(batchSize * sequenceLength);
  const labels = new Int32Array(batchSize * sequenceLength).fill(-100);
  const positionIds = new Int32Array(3 * batchSize * sequenceLength);
  const imageRows: number[] = [];
  rows.forEach((row, index) => {
    const start = index * sequenceLength;
    row.inputIds.forEach((id, position) => (inputIds[start + position] = BigInt(id)));
    attentionMask.fill(1, start, start + row.inputIds.length);
    labels.set(row.labels, start);
    const positions = ropePositions(row, mergeSize);
    for (let axis = 0; axis < 3; axis++)
      positionIds.set(positions[axis] as number[], (axis * batchSize + index) * sequenceLength);
    row.images.forEach(({ tokens }, image) => {
      for (let token = 0; token < tokens; token++) imageRows.push(start + (row.imageStarts[image] as number) + token);
    });
  });
  const images = rows.flatMap(({ images: list }) => list);
  return {
    batchSize,
    sequenceLength,
    inputIds,
    attentionMask,
    positionIds,
    labels,
    pixelPatches: joinPatches(images.map(({ patches }) => patches)),
    imageGrids: images.map(({ grid }) => grid),
    imageRows: Int32Array.from(imageRows),
  };
}

/**
 * Positions `[3][tokens]` (time, height, width) of one row: text counts up on all axes; a picture's cells share its start
 * in time and count rows and columns; after it the count goes on at the longer side.
 * Source: `get_rope_index` of `modeling_qwen3_vl.py`, huggingface/transformers 5.23.
 */
export function ropePositions(
  row: Pick<EncodedRow, "inputIds" | "images" | "imageStarts">,
  mergeSize: number,
): [number[], number[], number[]] {
  const axes: [number[], number[], number[]] = [[], [], []];
  let next = 0;
  let position = 0;
  const text = (until: number): void => {
    for (; position < until; position++, next++) for (const axis of axes) axis.push(next);
  };
  row.images.forEach(({ grid, tokens }, image) => {
    text(row.imageStarts[image] as number);
    const columns = grid.width / mergeSize;
    for (let token = 0; token < tokens; token++) {
      axes[0].push(next);
      axes[1].push(next + Math.floor(token / columns));
      axes[2].push(next + (token % columns));
    }
    position += tokens;
    next += Math.max(grid.height, grid.width) / mergeSize;
  });
  text(row.inputIds.length);
  return axes;
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
