import type { PatchGrid } from "../../image/image-processor.ts";
import { patchPlaces } from "../parts/patch-places.ts";
import type { QwenVisionConfig } from "./config.ts";

/** What depends on a picture's grid alone, for its patches in merge-block order. */
export interface GridTables {
  /** Patches. */
  readonly count: number;
  /** Taps into the position table and their weights: four arrays `[count]`. */
  readonly taps: readonly { readonly rows: BigInt64Array; readonly weights: Float32Array }[];
  /** 2-D rotary tables `[count, headSize/2]`: rows first, then columns. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/**
 * Positions of a picture's patches: bilinear taps into the learned table (corners aligned) and rotary angles, θ 10000.
 * Source: `fast_pos_embed_interpolate` and `rot_pos_emb` of `modeling_qwen3_vl.py`, huggingface/transformers 5.23.
 */
export function gridTables(config: QwenVisionConfig, grid: PatchGrid): GridTables {
  const places = patchPlaces(grid, config.mergeSize);
  const count = places.length;
  const taps = Array.from({ length: 4 }, () => ({
    rows: new BigInt64Array(count),
    weights: new Float32Array(count),
  }));
  const quarter = config.hiddenSize / config.heads / 4;
  const frequencies = Float32Array.from({ length: quarter }, (_, slot) => 1 / Math.fround(10000 ** (slot / quarter)));
  const angles = new Float32Array(count * 2 * quarter);
  const side = config.positionSide;
  places.forEach(([row, column], index) => {
    const [top, bottom, down] = neighbours(row, grid.height, side);
    const [left, right, across] = neighbours(column, grid.width, side);
    const corners = [
      [top, left, (1 - down) * (1 - across)],
      [top, right, (1 - down) * across],
      [bottom, left, down * (1 - across)],
      [bottom, right, down * across],
    ] as const;
    taps.forEach(({ rows, weights }, tap) => {
      const [tableRow, tableColumn, weight] = corners[tap] as readonly [number, number, number];
      rows[index] = BigInt(tableRow * side + tableColumn);
      weights[index] = weight;
    });
    const start = index * 2 * quarter;
    frequencies.forEach((frequency, slot) => {
      angles[start + slot] = row * frequency;
      angles[start + quarter + slot] = column * frequency;
    });
  });
  return { count, taps, cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

/** The two table rows around a coordinate and the share of the second: source = index · (side−1)/(size−1). */
function neighbours(index: number, size: number, side: number): [number, number, number] {
  const source = Math.fround(Math.fround(index * (side - 1)) / Math.max(size - 1, 1));
  const lower = Math.floor(source);
  return [lower, Math.min(lower + 1, side - 1), Math.fround(source - lower)];
}
