import type { PictureSize } from "./smart-resize.ts";

export interface TileGrid {
  readonly columns: number;
  readonly rows: number;
}

/**
 * The grid of square tiles into which InternVL and NVILA cut a picture: of all grids of `minTiles` to `maxTiles`, the
 * one whose shape is nearest the picture's; on an exact tie the larger one, if the picture has enough pixels for it.
 *
 * Source: `get_optimal_tiled_canvas` of transformers 5.23.0 (`image_processing_got_ocr2.py`): grids with the width in the
 * outer loop, sorted by area keeping that order.
 */
export function tileGrid(picture: PictureSize, tileSize: number, minTiles: number, maxTiles: number): TileGrid {
  const shape = picture.width / picture.height;
  const area = picture.width * picture.height;
  let best: TileGrid = { columns: 1, rows: 1 };
  let bestDifference = Infinity;
  for (const grid of candidateGrids(minTiles, maxTiles)) {
    const difference = Math.abs(shape - grid.columns / grid.rows);
    if (difference < bestDifference) {
      bestDifference = difference;
      best = grid;
    } else if (difference === bestDifference && area > 0.5 * tileSize ** 2 * grid.columns * grid.rows) best = grid;
  }
  return best;
}

/** Tiles that are encoded: those of the grid, and a thumbnail of the whole picture when the grid has several. */
export function tileCount(grid: TileGrid): number {
  const tiles = grid.columns * grid.rows;
  return tiles === 1 ? 1 : tiles + 1;
}

/** Tiles that a picture may have when it may not have more than `maxPixels` (default: no bound). */
export function maxTilesWithin(maxTiles: number, tileSize: number, maxPixels: number | undefined): number {
  return maxPixels === undefined ? maxTiles : Math.max(1, Math.min(maxTiles, Math.floor(maxPixels / tileSize ** 2)));
}

const gridsByBounds = new Map<string, readonly TileGrid[]>();

function candidateGrids(minTiles: number, maxTiles: number): readonly TileGrid[] {
  const key = `${minTiles}-${maxTiles}`;
  const known = gridsByBounds.get(key);
  if (known !== undefined) return known;
  const grids: TileGrid[] = [];
  for (let columns = 1; columns <= maxTiles; columns += 1)
    for (let rows = 1; rows <= maxTiles; rows += 1)
      if (columns * rows >= minTiles && columns * rows <= maxTiles) grids.push({ columns, rows });
  grids.sort((a, b) => a.columns * a.rows - b.columns * b.rows);
  gridsByBounds.set(key, grids);
  return grids;
}
