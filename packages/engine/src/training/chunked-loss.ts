import type { GraphBuilder } from "../graph/build.ts";
import { inChunks } from "../graph/chunks.ts";
import type { Node } from "../graph/ops.ts";
import { chunkDimensions, type Dimension } from "../graph/shape.ts";
import { capped } from "../models/parts/grouped-attention.ts";

/** What the loss compares: see `GraphBuilder.crossEntropySum`. */
export interface Labels {
  readonly labels: Node;
  readonly safe: Node;
  readonly keep: Node;
}

/**
 * The summed cross entropy of logits that are `hidden · headᵀ`, over some of their rows at a time: logits and their gradient
 * exist for so many rows as give at most `limit` elements, and are computed again for the backward pass.
 *
 * @param logits  `[L, V]`, a product of a matrix with a transposed one, capped or not; any other node is taken as it is
 */
export function crossEntropyWithin(graph: GraphBuilder, logits: Node, of: Labels, limit: number | undefined): Node {
  const { product, cap } = withoutCap(logits);
  const [hidden, head, addend] = product.inputs;
  const isProduct =
    product.op === "Gemm" && product.attributes["transB"] === true && product.attributes["transA"] === false;
  if (limit === undefined || !isProduct || !hidden || !head || addend)
    return graph.crossEntropySum(logits, of.labels, of.safe, of.keep);
  const alpha = product.attributes["alpha"] as number;
  const piecesOf = (inner: GraphBuilder, piece: Node, matrix: Node): Node => {
    const values = inner.gemm(piece, matrix, { transB: true, alpha });
    return cap === null ? values : capped(inner, values, cap);
  };
  const [rows, vocabulary] = logits.shape as [Dimension, Dimension];
  const [sum] = inChunks(graph, {
    cut: [
      { node: hidden, axis: 0 },
      { node: of.labels, axis: 0, padding: -100 },
      { node: of.safe, axis: 0 },
      { node: of.keep, axis: 0 },
    ],
    whole: [head],
    chunks: chunkDimensions(rows, vocabulary, limit),
    write: (inner, [piece, labels, safe, keep], [matrix]) => ({
      summed: [
        inner.crossEntropySum(
          piecesOf(inner, piece as Node, matrix as Node),
          labels as Node,
          safe as Node,
          keep as Node,
        ),
      ],
    }),
  });
  return sum as Node;
}

/** What `capped` was given, and its cap. */
function withoutCap(logits: Node): { readonly product: Node; readonly cap: number | null } {
  const [bent, factor] = logits.inputs;
  const [scaled] = bent?.inputs ?? [];
  const [product] = scaled?.inputs ?? [];
  const cap = factor?.data?.[0];
  return logits.op === "Mul" && bent?.op === "Tanh" && scaled?.op === "Mul" && product && cap !== undefined
    ? { product, cap: Number(cap) }
    : { product: logits, cap: null };
}
