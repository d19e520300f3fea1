/*
 * The image tower of Qwen3-VL. Choices that make it differ: learned positions resampled to each picture's grid, 2-D
 * rotary positions, full attention inside each picture, and DeepStack: features of some inner blocks go to the first
 * decoder layers as well.
 *
 * Shapes: I pictures, Q merged cells of the longest picture (others are padded), M = merge² patches a cell,
 * P = M·Q patches a picture, V width of the tower, D width of the decoder, H heads, d head size.
 * Source: `modeling_qwen3_vl.py` of huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import { groupedAttention } from "../parts/grouped-attention.ts";
import type { Variables } from "../variables.ts";
import type { QwenVisionConfig } from "./config.ts";

const normEpsilon = 1e-6;

/** Graph inputs of the tower, filled by inputs.ts. */
export interface VisionInputs {
  /** `[I·P, channels·time·patch²]`, padded rows 0. */
  readonly patches: Node;
  /** `[4·I·P]` int64: taps into the position table, tap-major. */
  readonly positionTaps: Node;
  /** `[4, I·P, 1]`. */
  readonly positionWeights: Node;
  /** `[I, P, d/2]`. */
  readonly cos: Node;
  readonly sin: Node;
  /** `[I, 1, 1, P]`: 0 for patches, −∞ for padding. */
  readonly mask: Node;
}

export interface VisionFeatures {
  /** `[I·Q, D]` in place of the picture's tokens. */
  readonly features: Node;
  /** `[I·Q, D]` each, added after the first decoder layers. */
  readonly deepstack: readonly Node[];
  /** `[I·P, V]` after each block: where the graph may be cut. */
  readonly blocks: readonly Node[];
}

const prefix = "model.visual";

export function visionTower(variables: Variables, config: QwenVisionConfig, inputs: VisionInputs): VisionFeatures {
  const { graph } = variables;
  const width = config.hiddenSize;
  const rows = inputs.patches.shape[0] as Dimension;

  const patchSize = config.channels * config.temporalPatchSize * config.patchSize ** 2;
  const patchWeight = variables.weight(`${prefix}.patch_embed.proj.weight`, [
    width,
    config.channels,
    config.temporalPatchSize,
    config.patchSize,
    config.patchSize,
  ]);
  const embedded = graph.gemm(inputs.patches, graph.reshape(patchWeight, [width, patchSize]), {
    transB: true,
    c: variables.weight(`${prefix}.patch_embed.proj.bias`, [width]),
  });
  const table = variables.weight(`${prefix}.pos_embed.weight`, [config.positionSide ** 2, width]);
  const taps = graph.reshape(graph.gather(table, inputs.positionTaps), [4, rows, width]);
  let x = graph.add(embedded, graph.reduceSum(graph.mul(taps, inputs.positionWeights), [0], false));

  const deepstack: Node[] = [];
  const blocks: Node[] = [];
  for (let index = 0; index < config.depth; index++) {
    x = graph.within(`visual.blocks.${index}`, () => block(variables, config, `${prefix}.blocks.${index}`, x, inputs));
    blocks.push(x);
    const tap = config.deepstackIndexes.indexOf(index);
    if (tap >= 0)
      deepstack[tap] = merger(variables, config, `${prefix}.deepstack_merger_list.${tap}`, x, "after-shuffle");
  }
  return { features: merger(variables, config, `${prefix}.merger`, x, "before-shuffle"), deepstack, blocks };
}

/** Pre-norm transformer block: `x [I·P, V]` to the same shape. */
function block(variables: Variables, config: QwenVisionConfig, path: string, x: Node, inputs: VisionInputs): Node {
  const { graph } = variables;
  const width = config.hiddenSize;
  const attended = attention(
    variables,
    config,
    `${path}.attn`,
    variables.layerNorm(`${path}.norm1`, x, normEpsilon),
    inputs,
  );
  const middle = graph.add(
    x,
    variables.linear(`${path}.attn.proj`, attended, { in: width, out: width, hasBias: true }),
  );
  const hidden = variables.linear(`${path}.mlp.linear_fc1`, variables.layerNorm(`${path}.norm2`, middle, normEpsilon), {
    in: width,
    out: config.intermediateSize,
    hasBias: true,
  });
  const mixed = variables.linear(`${path}.mlp.linear_fc2`, graph.unary("GeluTanh", hidden), {
    in: config.intermediateSize,
    out: width,
    hasBias: true,
  });
  return graph.add(middle, mixed);
}

/** Attention of every patch to every patch of its picture, before the output projection. */
function attention(variables: Variables, config: QwenVisionConfig, path: string, x: Node, inputs: VisionInputs): Node {
  const { graph } = variables;
  const width = config.hiddenSize;
  const headSize = width / config.heads;
  const [pictures, patches] = inputs.cos.shape as [Dimension, Dimension, Dimension];
  const qkv = variables.linear(`${path}.qkv`, x, { in: width, out: 3 * width, hasBias: true });
  const byPart_3IHPd = graph.transpose(
    graph.reshape(qkv, [pictures, patches, 3, config.heads, headSize]),
    [2, 0, 3, 1, 4],
  );
  const parts = graph
    .split(byPart_3IHPd, 0, 3)
    .map((part) => graph.reshape(part, [pictures, config.heads, patches, headSize]));
  const [query, key, value] = parts as [Node, Node, Node];
  const q_IHPd = graph.rotaryEmbedding(query, inputs.cos, inputs.sin);
  const k_IHPd = graph.rotaryEmbedding(key, inputs.cos, inputs.sin);
  return groupedAttention(variables, { query: q_IHPd, key: k_IHPd, value, mask: inputs.mask });
}

/** merge² neighbouring patches to one row of the decoder's width. The final merger norms before it joins them. */
function merger(
  variables: Variables,
  config: QwenVisionConfig,
  path: string,
  x: Node,
  order: "before-shuffle" | "after-shuffle",
): Node {
  const { graph } = variables;
  const joined = config.hiddenSize * config.mergeSize ** 2;
  const [pictures, cells] = (x.shape[0] as string).split("*").slice(-2) as [string, string];
  const shape = [product([pictures, cells]), joined];
  const normed =
    order === "before-shuffle"
      ? graph.reshape(variables.layerNorm(`${path}.norm`, x, normEpsilon), shape)
      : variables.layerNorm(`${path}.norm`, graph.reshape(x, shape), normEpsilon);
  const hidden = graph.unary(
    "Gelu",
    variables.linear(`${path}.linear_fc1`, normed, { in: joined, out: joined, hasBias: true }),
  );
  return variables.linear(`${path}.linear_fc2`, hidden, { in: joined, out: config.outputSize, hasBias: true });
}
