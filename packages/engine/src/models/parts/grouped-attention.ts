import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";

/**
 * softmax(scale · q·kᵀ + mask) · v as `[B·T, H·d]`. Query heads of a group share one product with their key head; heads of a
 * group follow each other.
 *
 * @param query  `[B, H, T, d]`
 * @param key    `[B, K, S, d]`, K a divisor of H
 * @param value  `[B, K, S, d]`
 * @param mask   additive, broadcast to `[B, H, T, S]`
 * @param scale  of the scores; d^−½ unless given
 */
export function groupedAttention(
  graph: GraphBuilder,
  parts: {
    readonly query: Node;
    readonly key: Node;
    readonly value: Node;
    readonly mask: Node;
    readonly scale?: number;
  },
): Node {
  const [batch, heads, tokens, headSize] = parts.query.shape as [Dimension, number, Dimension, number];
  const [, keyValueHeads, span] = parts.key.shape as [Dimension, number, Dimension];
  const group = product([heads / keyValueHeads, tokens]);
  const grouped = graph.reshape(parts.query, [batch, keyValueHeads, group, headSize]);
  const scores = graph.matMul(grouped, parts.key, { transB: true, alpha: parts.scale ?? headSize ** -0.5 });
  const scores_BHTS = graph.reshape(scores, [batch, heads, tokens, span]);
  const weights = graph.softmax(graph.add(scores_BHTS, parts.mask));
  const mixed = graph.matMul(graph.reshape(weights, [batch, keyValueHeads, group, span]), parts.value);
  const mixed_BTHd = graph.transpose(graph.reshape(mixed, [batch, heads, tokens, headSize]), [0, 2, 1, 3]);
  return graph.reshape(mixed_BTHd, [product([batch, tokens]), heads * headSize]);
}
