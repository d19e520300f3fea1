import type { Node } from "../../graph/ops.ts";
import { product } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";

/** Patches a side of the square that becomes one visual token. */
const cellSide = 3;
/** PyTorch's own, unlike the tower's. */
const normEpsilon = 1e-5;

/** Visual tokens a side of a tile of `side` patches: the last ones may be filled up with zeros. */
export function cellsPerSide(side: number): number {
  return Math.ceil(side / cellSide);
}

/**
 * `mlp_downsample_3x3_fix`: nine neighbouring patches become the channels of one token, then two norms and three linear layers.
 *
 * Symbols: K tiles. Shapes: S patches a side, C cells a side, V width of the tower, D width of the decoder.
 * Source: `base_projector.py` of NVlabs/VILA.
 *
 * @param rows  `[S²·K, V]`
 * @returns     `[C²·K, D]`
 */
export function nvilaBridge(
  variables: Variables,
  path: string,
  rows: Node,
  sizes: { readonly side: number; readonly towerWidth: number; readonly width: number },
): Node {
  const { graph } = variables;
  const { side, towerWidth, width } = sizes;
  const cells = cellsPerSide(side);
  const joined = cellSide ** 2 * towerWidth;
  const middle = cellSide * towerWidth;
  const cut = graph.reshape(filledUp(variables, rows, side, towerWidth), [
    "K",
    cells,
    cellSide,
    cells,
    cellSide,
    towerWidth,
  ]);
  const x = graph.reshape(graph.transpose(cut, [0, 1, 3, 2, 4, 5]), [product(["K", cells ** 2]), joined]);
  const first = variables.linear(`${path}.layers.2`, variables.layerNorm(`${path}.layers.1`, x, normEpsilon), {
    in: joined,
    out: middle,
    hasBias: true,
  });
  const normed = variables.layerNorm(`${path}.layers.4`, graph.unary("Gelu", first), normEpsilon);
  const second = variables.linear(`${path}.layers.5`, normed, { in: middle, out: width, hasBias: true });
  return variables.linear(`${path}.layers.7`, graph.unary("Gelu", second), { in: width, out: width, hasBias: true });
}

/** `[K, 3C, 3C, V]`: zeros below and to the right of a tile whose side is no multiple of a cell's. */
function filledUp({ graph }: Variables, rows: Node, side: number, width: number): Node {
  const whole = cellsPerSide(side) * cellSide;
  const squares = graph.reshape(rows, ["K", side, side, width]);
  if (whole === side) return squares;
  const higher = graph.concat([squares, graph.fill(0, ["K", whole - side, side, width])], 1);
  return graph.concat([higher, graph.fill(0, ["K", whole, whole - side, width])], 2);
}
