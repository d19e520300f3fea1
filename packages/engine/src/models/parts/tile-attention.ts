import type { Node } from "../../graph/ops.ts";
import type { Variables } from "../variables.ts";
import { groupedAttention } from "./grouped-attention.ts";

/** What differs between towers that attend inside each tile alone. */
export interface TileAttention {
  readonly width: number;
  readonly heads: number;
  /** Rows of a tile, the class token included. */
  readonly rowsPerTile: number;
  readonly hasQueryKeyValueBias: boolean;
  /** Name of the output projection, which has a bias. */
  readonly output: string;
  /** Epsilon of RMS norms over whole queries and keys, before they are cut into heads; absent = none. */
  readonly queryKeyNormEpsilon?: number | undefined;
}

/** Attention of all rows of a tile to each other, output projection included: `x [rows·K, V]` to the same shape. */
export function tileAttention(variables: Variables, config: TileAttention, path: string, x: Node): Node {
  const { graph } = variables;
  const { width, heads, rowsPerTile, queryKeyNormEpsilon } = config;
  const headsOf = (projected: Node): Node =>
    graph.transpose(graph.reshape(projected, ["K", rowsPerTile, heads, width / heads]), [0, 2, 1, 3]);
  const projected = (part: "q" | "k" | "v"): Node => {
    const sizes = { in: width, out: width, hasBias: config.hasQueryKeyValueBias };
    const y = variables.linear(`${path}.${part}_proj`, x, sizes);
    return part === "v" || queryKeyNormEpsilon === undefined
      ? y
      : variables.rmsNorm(`${path}.${part}_norm`, y, queryKeyNormEpsilon);
  };
  const mixed = groupedAttention(variables, {
    query: headsOf(projected("q")),
    key: headsOf(projected("k")),
    value: headsOf(projected("v")),
    mask: null,
  });
  return variables.linear(`${path}.${config.output}`, mixed, { in: width, out: width, hasBias: true });
}
