/*
 * The text decoder of Qwen3.5: layers with a gated DeltaNet, and every few of them one with gated attention. Norm gains are stored
 * as their distance from 1, but for the norm inside the DeltaNet.
 * Source: `modeling_qwen3_5.py` of huggingface/transformers 5.23.
 */
import type { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import type { CacheSlot } from "../model.ts";
import { groupedAttention } from "../parts/grouped-attention.ts";
import { decoderPath, embeddedTokens, gatedMlp, type ImagePlacement, type TextInputs } from "../parts/text-decoder.ts";
import type { Variables } from "../variables.ts";
import type { HybridDecoderConfig } from "./config.ts";
import { deltaNet, deltaNetStep, mixedSize } from "./delta-net.ts";
import type { DeltaInputs } from "./delta-inputs.ts";

/** Arrays of the cache by slot: `<layer>.key`, `<layer>.value`, or `<layer>.convolution`, `<layer>.state`. */
export type HybridCache = ReadonlyMap<string, Node>;

export interface HybridInputs extends TextInputs {
  /** Null with a cache. */
  readonly delta: DeltaInputs | null;
}

export interface HybridOutput {
  /** `[B·T, D]` before the final norm. */
  readonly hidden: Node;
  readonly cache: HybridCache;
  /** `[B·T, D]` after each layer. */
  readonly layers: readonly Node[];
}

export function hybridDecoder(
  variables: Variables,
  config: HybridDecoderConfig,
  inputs: HybridInputs,
  image: ImagePlacement | null,
  past: HybridCache | null,
): HybridOutput {
  let x = embeddedTokens(variables, { ...config, embeddingScale: 1 }, inputs.inputIds, image);
  const cache = new Map<string, Node>();
  const layers: Node[] = [];
  config.layerKinds.forEach((kind, index) => {
    const path = `${decoderPath}.layers.${index}`;
    x = variables.graph.within(`layers.${index}`, () => {
      const norm = (name: string, input: Node): Node =>
        variables.rmsNorm(`${path}.${name}`, input, config.epsilon, { plusOne: true });
      const normed = norm("input_layernorm", x);
      const mixed =
        kind === "full"
          ? gatedAttention(variables, config, index, x, normed, inputs, past, cache)
          : linearAttention(variables, config, index, x, normed, inputs, past, cache);
      const mlp = { ...config, activation: "Silu" as const };
      return gatedMlp(variables, mlp, `${path}.mlp`, norm("post_attention_layernorm", mixed), mixed);
    });
    layers.push(x);
  });
  return { hidden: x, cache, layers };
}

/** What each layer leaves for the next token. */
export function hybridSlots({ layerKinds, keyValueHeads, headSize, delta }: HybridDecoderConfig): CacheSlot[] {
  return layerKinds.flatMap((kind, layer): CacheSlot[] =>
    kind === "full"
      ? ["key", "value"].map((part) => ({
          name: `${layer}.${part}`,
          kind: "grows",
          shape: () => [keyValueHeads, headSize],
        }))
      : [
          { name: `${layer}.convolution`, kind: "replaced", shape: () => [delta.kernel - 1, mixedSize(delta)] },
          { name: `${layer}.state`, kind: "replaced", shape: () => [delta.valueHeads, delta.keySize, delta.valueSize] },
        ],
  );
}

/** The inputs `past.<slot>`. */
export function hybridPast(graph: GraphBuilder, config: HybridDecoderConfig): HybridCache {
  const { keyValueHeads, headSize, delta } = config;
  const shapes = {
    key: ["B", keyValueHeads, "S", headSize],
    value: ["B", keyValueHeads, "S", headSize],
    convolution: ["B", delta.kernel - 1, mixedSize(delta)],
    state: ["B", delta.valueHeads, delta.keySize, delta.valueSize],
  };
  return new Map(
    hybridSlots(config).map(({ name }) => {
      const part = name.slice(name.indexOf(".") + 1) as keyof typeof shapes;
      return [name, graph.input(`past.${name}`, shapes[part])];
    }),
  );
}

function linearAttention(
  variables: Variables,
  config: HybridDecoderConfig,
  layer: number,
  x: Node,
  normed: Node,
  inputs: HybridInputs,
  past: HybridCache | null,
  cache: Map<string, Node>,
): Node {
  const path = `${decoderPath}.layers.${layer}.linear_attn`;
  const slot = (part: string): Node => past?.get(`${layer}.${part}`) as Node;
  const made =
    past || !inputs.delta
      ? deltaNetStep(variables, config, path, x, normed, { convolution: slot("convolution"), state: slot("state") })
      : deltaNet(variables, config, path, x, normed, inputs.delta);
  cache.set(`${layer}.convolution`, made.cache.convolution);
  cache.set(`${layer}.state`, made.cache.state);
  return made.hidden;
}

/** `x + o(attention ⊙ σ(gate))`, `[B·T, D]`; only the first part of each head is rotated. */
function gatedAttention(
  variables: Variables,
  config: HybridDecoderConfig,
  layer: number,
  x: Node,
  normed: Node,
  inputs: TextInputs,
  past: HybridCache | null,
  cache: Map<string, Node>,
): Node {
  const { graph } = variables;
  const { heads, keyValueHeads, headSize, rotarySize } = config;
  const path = `${decoderPath}.layers.${layer}.self_attn`;
  const [batch, tokens] = inputs.cos.shape as [Dimension, Dimension, Dimension];
  const projected = (name: string, count: number, size: number): Node => {
    const flat = variables.linear(`${path}.${name}`, normed, { in: config.hiddenSize, out: count * size });
    return graph.reshape(flat, [batch, tokens, count, size]);
  };
  const rotated = (name: string, part: Node): Node => {
    const normedHeads = variables.rmsNorm(`${path}.${name}_norm`, part, config.epsilon, { plusOne: true });
    const byHead = graph.transpose(normedHeads, [0, 2, 1, 3]);
    if (rotarySize === headSize) return graph.rotaryEmbedding(byHead, inputs.cos, inputs.sin);
    const [turned, rest] = graph.split(byHead, 3, [rotarySize, headSize - rotarySize]) as [Node, Node];
    return graph.concat([graph.rotaryEmbedding(turned, inputs.cos, inputs.sin), rest], 3);
  };
  // Query and gate of a head lie behind each other, head by head.
  const [query, gate] = graph.split(projected("q_proj", heads, 2 * headSize), 3, 2) as [Node, Node];
  const key = rotated("k", projected("k_proj", keyValueHeads, headSize));
  const value = graph.transpose(projected("v_proj", keyValueHeads, headSize), [0, 2, 1, 3]);
  cache.set(`${layer}.key`, key);
  cache.set(`${layer}.value`, value);
  const withPast = (part: "key" | "value", own: Node): Node =>
    past ? graph.concat([past.get(`${layer}.${part}`) as Node, own], 2, "W") : own;
  const mixed = groupedAttention(variables, {
    query: rotated("q", query),
    key: withPast("key", key),
    value: withPast("value", value),
    mask: inputs.mask,
  });
  const width = heads * headSize;
  const gated = graph.mul(mixed, graph.unary("Sigmoid", graph.reshape(gate, [product([batch, tokens]), width])));
  return variables.linear(`${path}.o_proj`, gated, { in: width, out: config.hiddenSize }, x);
}
