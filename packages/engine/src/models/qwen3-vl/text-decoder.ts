/*
 * The text decoder of Qwen3-VL: Qwen3 (no biases, RMS norm on each query and key head, grouped keys and values, SwiGLU)
 * with interleaved M-RoPE, picture features in place of placeholder rows, and DeepStack features added after the first
 * layers.
 *
 * Shapes: B rows, T tokens, D width, H query heads, K key/value heads, G = H/K, d head size, S tokens in the cache.
 * Source: `modeling_qwen3_vl.py` of huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";
import type { Qwen3VlConfig } from "./config.ts";
import type { VisionFeatures } from "./vision-tower.ts";

export interface TextInputs {
  /** `[B·T]` int64. */
  readonly inputIds: Node;
  /** `[B, T, d/2]`. */
  readonly cos: Node;
  readonly sin: Node;
  /** Additive: `[B, 1, T, T]`, or `[B, 1, T, S+T]` with a cache. */
  readonly mask: Node;
}

/** Features and where they go. */
export interface ImagePlacement extends VisionFeatures {
  /** `[N]` int64: rows of the features that are no padding. */
  readonly featureRows: Node;
  /** `[N]` int64: rows of `[B·T]` that they replace. */
  readonly imageRows: Node;
}

/** Keys and values of one layer, `[B, K, tokens, d]`, keys after the rotary embedding. */
export interface LayerCache {
  readonly key: Node;
  readonly value: Node;
}

export interface DecoderOutput {
  /** `[B·T, D]` before the final norm. */
  readonly hidden: Node;
  /** What this call adds to the cache, by layer. */
  readonly cache: readonly LayerCache[];
  /** `[B·T, D]` after each layer, features that are added there included: where the graph may be cut. */
  readonly layers: readonly Node[];
}

const prefix = "model.language_model";

export function textDecoder(
  variables: Variables,
  config: Qwen3VlConfig["text"],
  inputs: TextInputs,
  image: ImagePlacement | null,
  past: readonly LayerCache[] | null = null,
): DecoderOutput {
  const { graph } = variables;
  let x = graph.gather(embedding(variables, config), inputs.inputIds);
  if (image) x = graph.scatterRows(x, image.imageRows, graph.gather(image.features, image.featureRows));
  const cache: LayerCache[] = [];
  const layers: Node[] = [];
  for (let index = 0; index < config.layers; index++) {
    x = graph.within(`layers.${index}`, () =>
      layer(variables, config, `${prefix}.layers.${index}`, x, inputs, past?.[index] ?? null, cache),
    );
    const deep = image?.deepstack[index];
    if (image && deep) x = graph.addRows(x, image.imageRows, graph.gather(deep, image.featureRows));
    layers.push(x);
  }
  return { hidden: x, cache, layers };
}

/** Logits `[L, vocabulary]` of the rows `[L]` (int64, into `[B·T]`) of the decoder's output. */
export function logitsAt(variables: Variables, config: Qwen3VlConfig, hidden: Node, rows: Node | null): Node {
  const { graph } = variables;
  const chosen = rows ? graph.gather(hidden, rows) : hidden;
  const normed = rmsNorm(variables, `${prefix}.norm`, chosen, config.text.epsilon);
  const head = config.tiesEmbeddings
    ? embedding(variables, config.text)
    : variables.weight("lm_head.weight", [config.text.vocabularySize, config.text.hiddenSize]);
  return graph.gemm(normed, head, { transB: true });
}

function embedding(variables: Variables, config: Qwen3VlConfig["text"]): Node {
  return variables.weight(`${prefix}.embed_tokens.weight`, [config.vocabularySize, config.hiddenSize]);
}

function layer(
  variables: Variables,
  config: Qwen3VlConfig["text"],
  path: string,
  x: Node,
  inputs: TextInputs,
  past: LayerCache | null,
  cache: LayerCache[],
): Node {
  const { graph } = variables;
  const mixed = attention(
    variables,
    config,
    `${path}.self_attn`,
    rmsNorm(variables, `${path}.input_layernorm`, x, config.epsilon),
    inputs,
    past,
    cache,
  );
  const middle = variables.linear(
    `${path}.self_attn.o_proj`,
    mixed,
    { in: config.heads * config.headSize, out: config.hiddenSize },
    x,
  );
  const normed = rmsNorm(variables, `${path}.post_attention_layernorm`, middle, config.epsilon);
  const sizes = { in: config.hiddenSize, out: config.intermediateSize };
  const gate = graph.unary("Silu", variables.linear(`${path}.mlp.gate_proj`, normed, sizes));
  const gated = graph.mul(gate, variables.linear(`${path}.mlp.up_proj`, normed, sizes));
  return variables.linear(
    `${path}.mlp.down_proj`,
    gated,
    { in: config.intermediateSize, out: config.hiddenSize },
    middle,
  );
}

/** Grouped causal attention `[B·T, H·d]`, before the output projection. Query heads of a group share one product. */
function attention(
  variables: Variables,
  config: Qwen3VlConfig["text"],
  path: string,
  x: Node,
  inputs: TextInputs,
  past: LayerCache | null,
  cache: LayerCache[],
): Node {
  const { graph } = variables;
  const { heads, keyValueHeads, headSize } = config;
  const [batch, tokens] = inputs.cos.shape as [Dimension, Dimension, Dimension];
  const projected = (name: string, count: number): Node =>
    graph.reshape(variables.linear(`${path}.${name}`, x, { in: config.hiddenSize, out: count * headSize }), [
      batch,
      tokens,
      count,
      headSize,
    ]);
  const rotated = (name: string, count: number): Node => {
    const normed = rmsNorm(variables, `${path}.${name[0]}_norm`, projected(name, count), config.epsilon);
    return graph.rotaryEmbedding(graph.transpose(normed, [0, 2, 1, 3]), inputs.cos, inputs.sin);
  };
  const q_BHTd = rotated("q_proj", heads);
  const k_BKTd = rotated("k_proj", keyValueHeads);
  const v_BKTd = graph.transpose(projected("v_proj", keyValueHeads), [0, 2, 1, 3]);
  cache.push({ key: k_BKTd, value: v_BKTd });

  const span = inputs.mask.shape[3] as Dimension;
  const keys = past ? graph.concat([past.key, k_BKTd], 2, span) : k_BKTd;
  const values = past ? graph.concat([past.value, v_BKTd], 2, span) : v_BKTd;
  const group = product([heads / keyValueHeads, tokens]);
  const grouped = graph.reshape(q_BHTd, [batch, keyValueHeads, group, headSize]);
  const scores_BHTS = graph.reshape(graph.matMul(grouped, keys, { transB: true, alpha: headSize ** -0.5 }), [
    batch,
    heads,
    tokens,
    span,
  ]);
  const weights = graph.softmax(graph.add(scores_BHTS, inputs.mask));
  const mixed = graph.matMul(graph.reshape(weights, [batch, keyValueHeads, group, span]), values);
  return graph.reshape(graph.transpose(graph.reshape(mixed, [batch, heads, tokens, headSize]), [0, 2, 1, 3]), [
    product([batch, tokens]),
    heads * headSize,
  ]);
}

function rmsNorm(variables: Variables, path: string, x: Node, epsilon: number): Node {
  return variables.graph.rmsNorm(x, variables.weight(`${path}.weight`, [x.shape.at(-1) as number]), epsilon);
}
