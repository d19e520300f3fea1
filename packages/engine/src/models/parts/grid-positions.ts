import type { EncodedRow } from "../../batch/encoded-row.ts";
import type { Positions } from "../model.ts";

/**
 * Positions `[3][tokens]` (time, height, width) of one row: text counts up on all axes; a picture's cells share its start
 * in time and count rows and columns; after it the count goes on at the longer side.
 * Source: `get_rope_index` of `modeling_qwen3_vl.py`, huggingface/transformers 5.23.
 */
export function gridPositions(
  row: Pick<EncodedRow, "inputIds" | "images" | "imagePositions">,
  mergeSize: number,
): Positions {
  const axes: [number[], number[], number[]] = [[], [], []];
  let next = 0;
  let position = 0;
  const text = (until: number): void => {
    for (; position < until; position++, next++) for (const axis of axes) axis.push(next);
  };
  row.images.forEach(({ grid, tokens }, image) => {
    text(row.imagePositions[image]?.[0] as number);
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
