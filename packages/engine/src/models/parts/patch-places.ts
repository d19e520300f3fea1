import type { PatchGrid } from "../../image/image-processor.ts";

/** (row, column) of each patch, in merge-block order. */
export function patchPlaces(grid: PatchGrid, merge: number): [number, number][] {
  const result: [number, number][] = [];
  for (let frame = 0; frame < grid.time; frame++)
    for (let blockRow = 0; blockRow < grid.height / merge; blockRow++)
      for (let blockColumn = 0; blockColumn < grid.width / merge; blockColumn++)
        for (let row = 0; row < merge; row++)
          for (let column = 0; column < merge; column++)
            result.push([blockRow * merge + row, blockColumn * merge + column]);
  return result;
}
