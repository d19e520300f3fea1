import type { ModelBatch } from "./model-batch.ts";
import { splitBatch } from "./split-batch.ts";

/** Some rows of a batch, in the order given, as a batch with the same padding. */
export function pickRows(batch: ModelBatch, rows: readonly number[]): ModelBatch {
  const { sequenceLength: tokens } = batch;
  const alone = splitBatch(batch, batch.batchSize).map((part) => part.batch);
  const picked = rows.map((row) => alone[row] as ModelBatch);
  const positionIds = new Int32Array(3 * rows.length * tokens);
  picked.forEach((part, row) => {
    for (let axis = 0; axis < 3; axis++)
      positionIds.set(
        part.positionIds.subarray(axis * tokens, (axis + 1) * tokens),
        (axis * rows.length + row) * tokens,
      );
  });
  const pixelPatches = new Float32Array(picked.reduce((sum, part) => sum + part.pixelPatches.length, 0));
  let written = 0;
  for (const part of picked) {
    pixelPatches.set(part.pixelPatches, written);
    written += part.pixelPatches.length;
  }
  return {
    batchSize: rows.length,
    sequenceLength: tokens,
    inputIds: BigInt64Array.from(picked.flatMap((part) => [...part.inputIds])),
    attentionMask: Uint8Array.from(picked.flatMap((part) => [...part.attentionMask])),
    positionIds,
    labels: Int32Array.from(picked.flatMap((part) => [...part.labels])),
    pixelPatches,
    pictures: picked.flatMap(({ pictures }, row) => pictures.map((picture) => ({ ...picture, row }))),
    imageRows: Int32Array.from(picked.flatMap(({ imageRows }, row) => [...imageRows].map((at) => at + row * tokens))),
  };
}
