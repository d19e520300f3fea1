import type { PictureSize } from "./smart-resize.ts";
import type { TileGrid } from "./tile-grid.ts";

/** Height and width in pixels, as `image_grid_pinpoints` lists them. */
export type Resolution = readonly [number, number];

/**
 * The tiles into which LLaVA-NeXT cuts a picture: of the resolutions that the model lists the one that keeps most of its pixels,
 * and of those that keep the same the one that wastes least.
 *
 * Source: `select_best_resolution` of huggingface/transformers 5.23 (`image_processing_utils.py`).
 * @param resolutions  at least one, of whole tiles
 */
export function anyResolutionTiling(
  picture: PictureSize,
  tileSize: number,
  resolutions: readonly Resolution[],
): TileGrid {
  let best: TileGrid = { columns: 1, rows: 1 };
  let mostKept = 0;
  let leastWasted = Number.POSITIVE_INFINITY;
  for (const [height, width] of resolutions) {
    const scale = Math.min(width / picture.width, height / picture.height);
    const scaled = Math.trunc(picture.width * scale) * Math.trunc(picture.height * scale);
    const kept = Math.min(scaled, picture.width * picture.height);
    const wasted = width * height - kept;
    if (kept < mostKept || (kept === mostKept && wasted >= leastWasted)) continue;
    mostKept = kept;
    leastWasted = wasted;
    best = { columns: width / tileSize, rows: height / tileSize };
  }
  return best;
}

/** The resolutions of at most `maxPixels` (default: all), or the smallest one. */
export function resolutionsWithin(resolutions: readonly Resolution[], maxPixels: number | undefined): Resolution[] {
  const area = ([height, width]: Resolution): number => height * width;
  const within = resolutions.filter((each) => maxPixels === undefined || area(each) <= maxPixels);
  return within.length > 0 ? within : resolutions.toSorted((a, b) => area(a) - area(b)).slice(0, 1);
}

/**
 * Patches of all tiles together that show the picture, without those that show only its padding.
 *
 * Source: `unpad_image` of huggingface/transformers 5.23 (`modeling_llava_next.py`).
 * @param side  patches a side of a tile
 */
export function shownPatches({ width, height }: PictureSize, tiling: TileGrid, side: number): TileGrid {
  const whole = { columns: tiling.columns * side, rows: tiling.rows * side };
  if (width / height > whole.columns / whole.rows) {
    const rows = wholePart(height * (whole.columns / width));
    return { ...whole, rows: whole.rows - 2 * Math.floor((whole.rows - rows) / 2) };
  }
  const columns = wholePart(width * (whole.rows / height));
  return { ...whole, columns: whole.columns - 2 * Math.floor((whole.columns - columns) / 2) };
}

/** Visual tokens of a picture: the small copy of the whole, the patches shown, and an end of line behind each of their rows. */
export function anyResolutionTokens(shown: TileGrid, side: number): number {
  return side ** 2 + shown.rows * (shown.columns + 1);
}

/** Python's `int(round(value, 7))`: what lies below a whole number by a rounding error alone is that number. */
function wholePart(value: number): number {
  return Math.trunc(Math.round(value * 1e7) / 1e7);
}
