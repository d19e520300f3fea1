import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";

/**
 * Patches of square tiles with a class token before those of each tile.
 *
 * Symbols: K tiles in all. Row `k·(1 + patches)` is the class token of tile k, its patches follow.
 *
 * @param token      the learned class token, V values in any shape
 * @param embedded   `[patches·K, V]`
 * @param patchRows  `[patches·K]` int64: the row of each patch
 * @returns          `[(1 + patches)·K, V]`
 */
export function withClassToken(
  { graph }: Pick<Variables, "graph">,
  token: Node,
  embedded: Node,
  patchRows: Node,
  patches: number,
  tiles: Dimension = "K",
): Node {
  const width = embedded.shape[1] as Dimension;
  const everywhere = graph.expand(graph.reshape(token, [1, width]), [product([tiles, 1 + patches]), width]);
  return graph.scatterRows(everywhere, patchRows, embedded);
}

/** The rows of {@link withClassToken} with a learned position added to each: `table` holds 1 + patches of them. */
export function withTilePositions({ graph }: Pick<Variables, "graph">, rows: Node, table: Node): Node {
  const [positions, width] = table.shape.slice(-2) as [Dimension, Dimension];
  const added = graph.add(graph.reshape(rows, ["K", positions, width]), graph.reshape(table, [1, positions, width]));
  return graph.reshape(added, rows.shape);
}
