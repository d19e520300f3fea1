/*
 * LLaVA-NeXT: features of a picture's tiles, put together. A small copy of the whole comes first; then the tiles as one grid,
 * without the rows or columns that show only padding, and a learned end of line behind each row.
 *
 * Symbols: K tiles in all, Q features shown, N visual tokens.
 * Source: `pack_image_features` of `modeling_llava_next.py`, huggingface/transformers 5.23.
 */
import { anyResolutionTokens, type TileGrid } from "@drydock/spec";
import type { BatchPicture, ModelBatch } from "../../batch/model-batch.ts";
import { tokensMismatch, type TilePacking } from "../parts/tiled-model.ts";

/** @param side  patches a side of a tile */
export function anyResolutionPacking(side: number, width: number): TilePacking {
  return {
    packed: (variables, features) => {
      const { graph } = variables;
      const newline = graph.reshape(variables.weight("model.image_newline", [width]), [1, width]);
      const rows = graph.input("feature-rows", ["Q"], "int64");
      const places = graph.input("feature-places", ["Q"], "int64");
      return graph.scatterRows(graph.expand(newline, ["N", width]), places, graph.gather(features, rows));
    },
    feeds: (batch) => {
      const { rows, places, tokens } = placed(batch, side);
      if (tokens !== batch.imageRows.length) throw tokensMismatch(batch, tokens);
      return {
        "feature-rows": { data: BigInt64Array.from(rows, BigInt), shape: [rows.length] },
        "feature-places": { data: BigInt64Array.from(places, BigInt), shape: [places.length] },
      };
    },
    symbols: (batch) => ({ Q: placed(batch, side).rows.length, N: batch.imageRows.length }),
  };
}

/** Rows of the features of all tiles that are shown, where each goes among the visual tokens, and how many of those there are. */
function placed(batch: ModelBatch, side: number): { rows: number[]; places: number[]; tokens: number } {
  const rows: number[] = [];
  const places: number[] = [];
  let firstTile = 0;
  let token = 0;
  for (const picture of batch.pictures) {
    const { columns, rows: tileRows } = picture.tiling ?? { columns: 1, rows: 1 };
    const shown = shownOf(picture, side);
    for (let patch = 0; patch < side ** 2; patch++) {
      rows.push(firstTile * side ** 2 + patch);
      places.push(token++);
    }
    const top = (tileRows * side - shown.rows) / 2;
    const left = (columns * side - shown.columns) / 2;
    for (let row = top; row < top + shown.rows; row++, token++)
      for (let column = left; column < left + shown.columns; column++) {
        const tile = 1 + Math.floor(row / side) * columns + Math.floor(column / side);
        rows.push((firstTile + tile) * side ** 2 + (row % side) * side + (column % side));
        places.push(token++);
      }
    firstTile += picture.grid.time;
  }
  return { rows, places, tokens: token };
}

/** The patches that show a picture: all of a row or all of a column of its grid, so that their number says which. */
function shownOf({ tiling, tokens }: Pick<BatchPicture, "tiling" | "tokens">, side: number): TileGrid {
  const whole = { columns: (tiling?.columns ?? 1) * side, rows: (tiling?.rows ?? 1) * side };
  const fits = cuts(whole).find((shown) => anyResolutionTokens(shown, side) === tokens);
  return fits ?? whole;
}

/** Whether two ways to cut padding off a grid of tiles leave the same number of tokens. */
export function isAmbiguous(tiling: TileGrid, side: number): boolean {
  const counts = cuts({ columns: tiling.columns * side, rows: tiling.rows * side }).map((shown) =>
    anyResolutionTokens(shown, side),
  );
  return new Set(counts).size !== counts.length;
}

/** The whole grid, and what is left of it when as much is cut off at both ends of one axis. */
function cuts(whole: TileGrid): TileGrid[] {
  const least = (size: number): number => 2 - (size % 2);
  const left: TileGrid[] = [whole];
  for (let rows = whole.rows - 2; rows >= least(whole.rows); rows -= 2) left.push({ ...whole, rows });
  for (let columns = whole.columns - 2; columns >= least(whole.columns); columns -= 2) left.push({ ...whole, columns });
  return left;
}
