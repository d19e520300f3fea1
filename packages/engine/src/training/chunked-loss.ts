import type { GraphBuilder } from "../graph/build.ts";
import { inChunks } from "../graph/chunks.ts";
import type { Node } from "../graph/ops.ts";
import { chunkDimensions, type Dimension } from "../graph/shape.ts";

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
 * @param logits  `[L, V]`, a product of a matrix with a transposed one; any other node is taken as it is
 */
export function crossEntropyWithin(graph: GraphBuilder, logits: Node, of: Labels, limit: number | undefined): Node {
  const [hidden, head, addend] = logits.inputs;
  const isProduct =
    logits.op === "Gemm" && logits.attributes["transB"] === true && logits.attributes["transA"] === false;
  if (limit === undefined || !isProduct || !hidden || !head || addend)
    return graph.crossEntropySum(logits, of.labels, of.safe, of.keep);
  const alpha = logits.attributes["alpha"] as number;
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
          inner.gemm(piece as Node, matrix as Node, { transB: true, alpha }),
          labels as Node,
          safe as Node,
          keep as Node,
        ),
      ],
    }),
  });
  return sum as Node;
}
