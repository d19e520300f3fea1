import type { GraphBuilder } from "../../graph/build.ts";
import { inChunks, type CutInput } from "../../graph/chunks.ts";
import type { Node } from "../../graph/ops.ts";
import { chunkDimensions, product, type Dimension } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";

/**
 * Query t of row b sees key s where `reach[b, t] ≥ order[b, s]`, and `order[b, s] ≥ floor[b, t]` where there is a floor: so much
 * less to feed than an array of both axes.
 */
export interface Reach {
  /** `[B, T]`. */
  readonly reach: Node;
  /** `[B, S]`. */
  readonly order: Node;
  /** `[B, T]`. */
  readonly floor?: Node;
}

/** What is added to the scores, broadcast to `[B, H, T, S]`, or which keys are seen. */
export type AttentionMask = Node | Reach;

export interface AttentionParts {
  /** `[B, H, T, d]`. */
  readonly query: Node;
  /** `[B, K, S, d]`, K a divisor of H. */
  readonly key: Node;
  /** `[B, K, S, d]`. */
  readonly value: Node;
  /** Null: every query sees every key. */
  readonly mask: AttentionMask | null;
  /** Of the scores; d^−½ unless given. */
  readonly scale?: number;
  /** Scores s become cap · tanh(s / cap); absent = they stay. */
  readonly cap?: number;
}

/**
 * softmax(scale · q·kᵀ + mask) · v as `[B·T, H·d]`. Query heads of a group share one product with their key head; heads of a
 * group follow each other. Where the pass has a limit for attention, a piece of the queries is taken at a time, forward and
 * backward, so that no array of scores is larger than the limit (each piece has all its keys: nothing to join afterwards).
 */
export function groupedAttention(variables: Variables, parts: AttentionParts): Node {
  const { graph } = variables;
  const [batch, heads, tokens, headSize] = parts.query.shape as [Dimension, number, Dimension, number];
  const limit = variables.limits.attention;
  const mixed = limit === undefined ? mixedValues(graph, parts) : mixedInPieces(graph, parts, limit);
  return graph.reshape(graph.transpose(mixed, [0, 2, 1, 3]), [product([batch, tokens]), heads * headSize]);
}

/** `[B, H, T, d]`. */
function mixedValues(graph: GraphBuilder, { query, key, value, mask, scale, cap }: AttentionParts): Node {
  const [batch, heads, tokens, headSize] = query.shape as [Dimension, number, Dimension, number];
  const [, keyValueHeads, span] = key.shape as [Dimension, number, Dimension];
  const group = product([heads / keyValueHeads, tokens]);
  const grouped = graph.reshape(query, [batch, keyValueHeads, group, headSize]);
  const scores = graph.matMul(grouped, key, { transB: true, alpha: scale ?? headSize ** -0.5 });
  const scores_BHTS = graph.reshape(cap === undefined ? scores : capped(graph, scores, cap), [
    batch,
    heads,
    tokens,
    span,
  ]);
  const weights = graph.softmax(mask ? graph.add(scores_BHTS, addedMask(graph, mask)) : scores_BHTS);
  const mixed = graph.matMul(graph.reshape(weights, [batch, keyValueHeads, group, span]), value);
  return graph.reshape(mixed, [batch, heads, tokens, headSize]);
}

function mixedInPieces(graph: GraphBuilder, parts: AttentionParts, limit: number): Node {
  const { query, key, value, mask, scale, cap } = parts;
  const [batch, heads, tokens] = query.shape as [Dimension, number, Dimension];
  const span = key.shape[2] as Dimension;
  const cut: CutInput[] = [{ node: query, axis: 2 }];
  const whole = [key, value];
  if (mask === null) {
    // Nothing to hand to the pieces.
  } else if (isReach(mask)) {
    cut.push({ node: mask.reach, axis: 1 });
    if (mask.floor) cut.push({ node: mask.floor, axis: 1 });
    whole.push(mask.order);
  } else if (mask.shape.at(-2) === tokens) cut.push({ node: mask, axis: mask.shape.length - 2 });
  else whole.push(mask);
  const [mixed] = inChunks(graph, {
    cut,
    whole,
    chunks: chunkDimensions(tokens, product([batch, heads, span]), limit),
    write: (inner, [q, piece, floor], [k, v, rest]) => ({
      joined: [
        {
          node: mixedValues(inner, {
            query: q as Node,
            key: k as Node,
            value: v as Node,
            mask: mask && pieceOf(mask, piece, floor, rest),
            ...(scale === undefined ? {} : { scale }),
            ...(cap === undefined ? {} : { cap }),
          }),
          axis: 2,
        },
      ],
    }),
  });
  return mixed as Node;
}

/** cap · tanh(x / cap): values between −cap and cap. */
export function capped(graph: GraphBuilder, x: Node, cap: number): Node {
  return graph.mul(graph.unary("Tanh", graph.mul(x, graph.scalar(1 / cap))), graph.scalar(cap));
}

function pieceOf(
  mask: AttentionMask,
  piece: Node | undefined,
  floor: Node | undefined,
  rest: Node | undefined,
): AttentionMask {
  if (!isReach(mask)) return (piece ?? rest) as Node;
  return { reach: piece as Node, order: rest as Node, ...(floor ? { floor } : {}) };
}

function addedMask(graph: GraphBuilder, mask: AttentionMask): Node {
  if (!isReach(mask)) return mask;
  const [batch, tokens] = mask.reach.shape as [Dimension, Dimension];
  const span = mask.order.shape[1] as Dimension;
  const order = graph.reshape(mask.order, [batch, 1, 1, span]);
  const above = graph.maskBelow(graph.reshape(mask.reach, [batch, 1, tokens, 1]), order);
  if (!mask.floor) return above;
  return graph.add(above, graph.maskBelow(order, graph.reshape(mask.floor, [batch, 1, tokens, 1])));
}

function isReach(mask: AttentionMask): mask is Reach {
  return "reach" in mask;
}
