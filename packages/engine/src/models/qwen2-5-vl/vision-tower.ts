/*
 * The image tower of Qwen2.5-VL. Choices that make it differ: attention inside windows of the picture, over the whole picture in a
 * few blocks only; RMS norms; a gated MLP with biases; no learned positions.
 *
 * Patches keep the order in which they come. Attention places them into groups that are padded to one size with zeros, windows or
 * whole pictures, so no array of scores is larger than its groups.
 *
 * Shapes: N merged cells of all pictures, M = merge² patches a cell, R = M·N patches, V width of the tower, D width of the decoder,
 * G groups of p patches, H heads, d head size.
 * Source: `modeling_qwen2_5_vl.py` of huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import { groupedAttention } from "../parts/grouped-attention.ts";
import type { Variables } from "../variables.ts";
import type { WindowedVisionConfig } from "./config.ts";

/** Whatever the configuration says of the decoder's. */
const normEpsilon = 1e-6;
const prefix = "model.visual";

/** Patches that attend to each other, padded to one size. */
export interface PatchGroups {
  /** `[G, p, d/2]`. */
  readonly cos: Node;
  readonly sin: Node;
  /** `[G, 1, 1, p]`: 0 for patches, −∞ for padding. */
  readonly mask: Node;
  /** `[R]` int64: where each patch is among the `G·p` places of the groups. */
  readonly places: Node;
}

/** Graph inputs of the tower, filled by vision-inputs.ts. */
export interface VisionInputs {
  /** `[R, channels·time·patch²]`. */
  readonly patches: Node;
  readonly windows: PatchGroups;
  readonly frames: PatchGroups;
}

export interface VisionFeatures {
  /** `[N, D]`. */
  readonly features: Node;
  /** `[R, V]` after each block: where the graph may be cut. */
  readonly blocks: readonly Node[];
}

export function visionTower(variables: Variables, config: WindowedVisionConfig, inputs: VisionInputs): VisionFeatures {
  const { graph } = variables;
  const width = config.hiddenSize;
  const { channels, temporalPatchSize, patchSize } = config;
  const weight = variables.weight(`${prefix}.patch_embed.proj.weight`, [
    width,
    channels,
    temporalPatchSize,
    patchSize,
    patchSize,
  ]);
  const flat = graph.reshape(weight, [width, channels * temporalPatchSize * patchSize ** 2]);
  let x = graph.gemm(inputs.patches, flat, { transB: true });
  const blocks: Node[] = [];
  for (let index = 0; index < config.depth; index++) {
    const groups = config.wholeBlocks.has(index) ? inputs.frames : inputs.windows;
    x = graph.within(`visual.blocks.${index}`, () => block(variables, config, `${prefix}.blocks.${index}`, x, groups));
    blocks.push(x);
  }
  return { features: merger(variables, config, x), blocks };
}

/** Pre-norm transformer block: `x [R, V]` to the same shape. */
function block(variables: Variables, config: WindowedVisionConfig, path: string, x: Node, groups: PatchGroups): Node {
  const { graph } = variables;
  const [width, inner] = [config.hiddenSize, config.intermediateSize];
  const attended = attention(
    variables,
    config,
    `${path}.attn`,
    variables.rmsNorm(`${path}.norm1`, x, normEpsilon),
    groups,
  );
  const middle = graph.add(
    x,
    variables.linear(`${path}.attn.proj`, attended, { in: width, out: width, hasBias: true }),
  );
  const normed = variables.rmsNorm(`${path}.norm2`, middle, normEpsilon);
  const sizes = { in: width, out: inner, hasBias: true };
  const gate = graph.unary("Silu", variables.linear(`${path}.mlp.gate_proj`, normed, sizes));
  const gated = graph.mul(gate, variables.linear(`${path}.mlp.up_proj`, normed, sizes));
  const mixed = variables.linear(`${path}.mlp.down_proj`, gated, { in: inner, out: width, hasBias: true });
  return graph.add(middle, mixed);
}

/** Attention inside groups, `[R, V]`, before the output projection. */
function attention(
  variables: Variables,
  config: WindowedVisionConfig,
  path: string,
  x: Node,
  groups: PatchGroups,
): Node {
  const { graph } = variables;
  const width = config.hiddenSize;
  const headSize = width / config.heads;
  const [count, patches] = groups.cos.shape as [Dimension, Dimension, Dimension];
  const qkv = variables.linear(`${path}.qkv`, x, { in: width, out: 3 * width, hasBias: true });
  const rows = product([count, patches]);
  const placed = graph.scatterRows(graph.fill(0, [rows, 3 * width]), groups.places, qkv);
  const grouped = graph.reshape(placed, [count, patches, 3, config.heads, headSize]);
  const byPart_3GHpd = graph.transpose(grouped, [2, 0, 3, 1, 4]);
  const [query, key, value] = graph
    .split(byPart_3GHpd, 0, 3)
    .map((part) => graph.reshape(part, [count, config.heads, patches, headSize])) as [Node, Node, Node];
  const mixed = groupedAttention(variables, {
    query: graph.rotaryEmbedding(query, groups.cos, groups.sin),
    key: graph.rotaryEmbedding(key, groups.cos, groups.sin),
    value,
    mask: groups.mask,
  });
  return graph.gather(graph.reshape(mixed, [rows, width]), groups.places);
}

/** merge² neighbouring patches to one row of the decoder's width. */
function merger(variables: Variables, config: WindowedVisionConfig, x: Node): Node {
  const { graph } = variables;
  const joined = config.hiddenSize * config.mergeSize ** 2;
  const normed = graph.reshape(variables.rmsNorm(`${prefix}.merger.ln_q`, x, normEpsilon), ["N", joined]);
  const hidden = variables.linear(`${prefix}.merger.mlp.0`, normed, { in: joined, out: joined, hasBias: true });
  return variables.linear(`${prefix}.merger.mlp.2`, graph.unary("Gelu", hidden), {
    in: joined,
    out: config.outputSize,
    hasBias: true,
  });
}
