/*
 * The text decoder that most families share: pre-norm layers of grouped attention and a gated MLP, with the places where
 * families differ as settings. Picture features replace the rows of their placeholders; further features may be added after
 * the first layers (DeepStack).
 *
 * Shapes: B rows, T tokens, D width, H query heads, K key/value heads, d head size, S tokens in the cache.
 * Source: `modeling_qwen2.py`, `modeling_qwen3.py`, `modeling_llama.py`, `modeling_gemma.py` of huggingface/transformers 5.23.
 */
import type { DecoderConfig } from "./decoder-config.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import type { Dimension } from "../../graph/shape.ts";
import type { Variables } from "../variables.ts";
import { capped, groupedAttention, type AttentionMask } from "./grouped-attention.ts";
import type { LayerCache } from "./key-value-cache.ts";

export interface TextInputs {
  /** `[B·T]` int64. */
  readonly inputIds: Node;
  /** `[B, T, d/2]`. */
  readonly cos: Node;
  readonly sin: Node;
  /** Additive `[B, 1, T, W]` with a cache. */
  readonly mask: AttentionMask;
  /** Of layers with a window. */
  readonly slidingMask?: AttentionMask;
}

/** Features of all pictures and where they go. */
export interface ImagePlacement {
  /** `[F, D]` in place of the pictures' tokens. */
  readonly features: Node;
  /** `[F, D]` each, added after the first decoder layers. */
  readonly deepstack: readonly Node[];
  /** `[N]` int64: rows of the features that are no padding; null = all are. */
  readonly featureRows: Node | null;
  /** `[N]` int64: rows of `[B·T]` that they replace. */
  readonly imageRows: Node;
}

export interface DecoderOutput {
  /** `[B·T, D]` before the final norm. */
  readonly hidden: Node;
  /** What this call adds to the cache, by layer. */
  readonly cache: readonly LayerCache[];
  /** `[B·T, D]` after each layer, features that are added there included: where the graph may be cut. */
  readonly layers: readonly Node[];
}

/** Name of the decoder in the models of `transformers` 5. */
export const decoderPath = "model.language_model";

export function textDecoder(
  variables: Variables,
  config: DecoderConfig,
  inputs: TextInputs,
  image: ImagePlacement | null,
  past: readonly LayerCache[] | null = null,
): DecoderOutput {
  const { graph } = variables;
  let x = embeddedTokens(variables, config, inputs.inputIds, image);
  const cache: LayerCache[] = [];
  const layers: Node[] = [];
  for (let index = 0; index < config.layers; index++) {
    const mask = (config.sliding?.layers.has(index) ? inputs.slidingMask : null) ?? inputs.mask;
    const own = { ...inputs, mask };
    x = graph.within(`layers.${index}`, () =>
      decoderLayer(variables, config, `${decoderPath}.layers.${index}`, x, own, past?.[index] ?? null, cache),
    );
    const deep = image?.deepstack[index];
    if (image && deep) x = graph.addRows(x, image.imageRows, chosenFeatures(graph, image, deep));
    layers.push(x);
  }
  return { hidden: x, cache, layers };
}

/** `[B·T, D]`: embeddings of the tokens, features of pictures in their places. */
export function embeddedTokens(
  variables: Variables,
  config: Pick<DecoderConfig, "vocabularySize" | "hiddenSize" | "embeddingScale">,
  inputIds: Node,
  image: Pick<ImagePlacement, "features" | "featureRows" | "imageRows"> | null,
): Node {
  const { graph } = variables;
  const looked = graph.gather(embedding(variables, config), inputIds);
  const x = config.embeddingScale === 1 ? looked : graph.mul(looked, graph.scalar(config.embeddingScale));
  return image ? graph.scatterRows(x, image.imageRows, chosenFeatures(graph, image, image.features)) : x;
}

function chosenFeatures(graph: GraphBuilder, image: Pick<ImagePlacement, "featureRows">, features: Node): Node {
  return image.featureRows ? graph.gather(features, image.featureRows) : features;
}

/** Logits `[L, vocabulary]` of the rows `[L]` (int64, into `[B·T]`) of the decoder's output. */
export function logitsAt(
  variables: Variables,
  config: Pick<
    DecoderConfig,
    "vocabularySize" | "hiddenSize" | "epsilon" | "normsArePlusOne" | "tiesEmbeddings" | "logitCap"
  >,
  hidden: Node,
  rows: Node | null,
): Node {
  const { graph } = variables;
  const chosen = rows ? graph.gather(hidden, rows) : hidden;
  const normed = variables.rmsNorm(`${decoderPath}.norm`, chosen, config.epsilon, { plusOne: config.normsArePlusOne });
  const head = config.tiesEmbeddings
    ? embedding(variables, config)
    : variables.weight("lm_head.weight", [config.vocabularySize, config.hiddenSize]);
  const logits = graph.gemm(normed, head, { transB: true });
  return config.logitCap === undefined ? logits : capped(graph, logits, config.logitCap);
}

function embedding(variables: Variables, config: Pick<DecoderConfig, "vocabularySize" | "hiddenSize">): Node {
  return variables.weight(`${decoderPath}.embed_tokens.weight`, [config.vocabularySize, config.hiddenSize]);
}

/** `x [B·T, D]` to the same shape; pushes what the layer adds to the cache. */
export function decoderLayer(
  variables: Variables,
  config: DecoderConfig,
  path: string,
  x: Node,
  inputs: TextInputs,
  past: LayerCache | null,
  cache: LayerCache[],
): Node {
  const norm = (name: string, input: Node): Node =>
    variables.rmsNorm(`${path}.${name}`, input, config.epsilon, { plusOne: config.normsArePlusOne });
  const mixed = attention(variables, config, `${path}.self_attn`, norm("input_layernorm", x), inputs, past, cache);
  const sizes = { in: config.heads * config.headSize, out: config.hiddenSize };
  if (config.hasBranchNorms) {
    const { graph } = variables;
    const attended = variables.linear(`${path}.self_attn.o_proj`, mixed, sizes);
    const middle = graph.add(x, norm("post_attention_layernorm", attended));
    const fed = gatedMlp(variables, config, `${path}.mlp`, norm("pre_feedforward_layernorm", middle), null);
    return graph.add(middle, norm("post_feedforward_layernorm", fed));
  }
  const middle = variables.linear(`${path}.self_attn.o_proj`, mixed, sizes, x);
  return gatedMlp(variables, config, `${path}.mlp`, norm("post_attention_layernorm", middle), middle);
}

/** `residual + down(activation(gate(x)) ⊙ up(x))`, `[B·T, D]`; null: nothing is added. */
export function gatedMlp(
  variables: Variables,
  config: Pick<DecoderConfig, "hiddenSize" | "intermediateSize" | "activation">,
  path: string,
  x: Node,
  residual: Node | null,
): Node {
  const { graph } = variables;
  const sizes = { in: config.hiddenSize, out: config.intermediateSize };
  const gate = graph.unary(config.activation, variables.linear(`${path}.gate_proj`, x, sizes));
  const gated = graph.mul(gate, variables.linear(`${path}.up_proj`, x, sizes));
  return variables.linear(
    `${path}.down_proj`,
    gated,
    { in: config.intermediateSize, out: config.hiddenSize },
    residual ?? undefined,
  );
}

/** Grouped attention `[B·T, H·d]`, before the output projection. */
function attention(
  variables: Variables,
  config: DecoderConfig,
  path: string,
  x: Node,
  inputs: TextInputs,
  past: LayerCache | null,
  cache: LayerCache[],
): Node {
  const { graph } = variables;
  const { heads, keyValueHeads, headSize } = config;
  const [batch, tokens] = inputs.cos.shape as [Dimension, Dimension, Dimension];
  const projected = (name: string, count: number): Node => {
    const sizes = { in: config.hiddenSize, out: count * headSize, hasBias: config.hasQueryKeyValueBias };
    return graph.reshape(variables.linear(`${path}.${name}`, x, sizes), [batch, tokens, count, headSize]);
  };
  const rotated = (name: "q" | "k", count: number): Node => {
    const heads_BTHd = projected(`${name}_proj`, count);
    const normed = config.hasQueryKeyNorm
      ? variables.rmsNorm(`${path}.${name}_norm`, heads_BTHd, config.epsilon, { plusOne: config.normsArePlusOne })
      : heads_BTHd;
    return graph.rotaryEmbedding(graph.transpose(normed, [0, 2, 1, 3]), inputs.cos, inputs.sin);
  };
  const q_BHTd = rotated("q", heads);
  const k_BKTd = rotated("k", keyValueHeads);
  const v_BKTd = graph.transpose(projected("v_proj", keyValueHeads), [0, 2, 1, 3]);
  cache.push({ key: k_BKTd, value: v_BKTd });
  return groupedAttention(variables, {
    query: q_BHTd,
    key: past ? graph.concat([past.key, k_BKTd], 2, "W") : k_BKTd,
    value: past ? graph.concat([past.value, v_BKTd], 2, "W") : v_BKTd,
    mask: inputs.mask,
    ...(config.attentionScale === undefined ? {} : { scale: config.attentionScale }),
    ...(config.attentionCap === undefined ? {} : { cap: config.attentionCap }),
  });
}
