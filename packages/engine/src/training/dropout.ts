import { SeededRandom } from "./random.ts";

/**
 * A dropout mask `[rows·tokens, width]`: 1/(1−p) where kept, else 0. Row by row from (seed, step, row of the global batch,
 * module), token by token, so that neither the micro-batch nor the padding changes what a token sees, and a resumed run
 * drops what the uninterrupted one would have.
 */
export function dropoutMask(
  probability: number,
  seed: number,
  step: number,
  firstRow: number,
  rows: number,
  tokens: number,
  width: number,
  module: string,
): Float32Array {
  const mask = new Float32Array(rows * tokens * width);
  const threshold = Math.round(probability * 0x10000);
  const kept = 1 / (1 - probability);
  const perRow = tokens * width;
  for (let row = 0; row < rows; row++) {
    const random = new SeededRandom(seed, step, firstRow + row, module);
    const start = row * perRow;
    for (let index = 0; index < perRow; index += 2) {
      const bits = random.bits();
      if ((bits & 0xffff) >= threshold) mask[start + index] = kept;
      if (index + 1 < perRow && bits >>> 16 >= threshold) mask[start + index + 1] = kept;
    }
  }
  return mask;
}
