/*
 * The image tower of Mllama. A picture is up to M tiles, seen together: patches and a class token of each, with learned
 * positions in the tile and of the tile; local layers, then global ones whose branches are gated. The features are the last
 * state and those of some local layers.
 *
 * The reference lets padding take part: pictures are filled up to M tiles and tiles to a multiple of 8 rows, and only queries
 * of padding do not see keys of padding. So padding is computed here, too.
 *
 * Symbols: I pictures. Shapes: P patches a tile, L rows of a tile with class token and padding, V width of the tower.
 * Source: `modeling_mllama.py` of huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { product, type Dimension } from "../../graph/shape.ts";
import { withClassToken } from "../parts/class-token.ts";
import { groupedAttention } from "../parts/grouped-attention.ts";
import type { Variables } from "../variables.ts";
import type { MllamaVisionConfig } from "./config.ts";
import { rowsOfTile, type VisionInputs } from "./vision-inputs.ts";

/** Epsilon of the two norms that config.json does not reach: the framework's own. */
const outerNormEpsilon = 1e-5;
const path = "model.vision_model";

export interface MllamaFeatures {
  /** `[I·M·(1 + P), V·(1 + intermediate layers)]`. */
  readonly features: Node;
  /** `[I·M·L, V]` after each layer: where the graph may be cut. */
  readonly blocks: readonly Node[];
}

export function visionTower(variables: Variables, config: MllamaVisionConfig, inputs: VisionInputs): MllamaFeatures {
  const { graph } = variables;
  const { hiddenSize: width, tiles } = config;
  let x = paddedTiles(variables, config, inputs);
  const blocks: Node[] = [];
  const local: Node[] = [];
  for (let index = 0; index < config.localLayers; index++) {
    x = graph.within(`vision_model.${index}`, () =>
      layer(variables, config, `${path}.transformer.layers.${index}`, x, inputs, false),
    );
    blocks.push(x);
    local.push(x);
  }
  x = variables.layerNorm(`${path}.layernorm_post`, x, outerNormEpsilon);
  const embedding = tileEmbedding(variables, config, "post_tile_positional_embedding", inputs.tilings);
  const rows = x.shape[0] as Dimension;
  x = graph.reshape(graph.add(graph.reshape(x, ["I", tiles, rowsOfTile(config), width]), embedding), [rows, width]);
  for (let index = 0; index < config.globalLayers; index++) {
    x = graph.within(`vision_model.global.${index}`, () =>
      layer(variables, config, `${path}.global_transformer.layers.${index}`, x, inputs, true),
    );
    blocks.push(x);
  }
  const intermediate = config.intermediateLayers.map((index) => local[index] as Node);
  return { features: joined(variables, x, intermediate, inputs.seenRows), blocks };
}

/** `[I·M·L, V]`: embedded tiles, normed, with zeros as padding. */
function paddedTiles(variables: Variables, config: MllamaVisionConfig, inputs: VisionInputs): Node {
  const { graph } = variables;
  const { hiddenSize: width, channels, patchSize, side, tiles } = config;
  const patches = side ** 2;
  const weight = variables.weight(`${path}.patch_embedding.weight`, [width, channels, patchSize, patchSize]);
  const embedded = graph.gemm(inputs.patches, graph.reshape(weight, [width, channels * patchSize ** 2]), {
    transB: true,
  });
  const placed = graph.add(
    graph.reshape(embedded, ["I", tiles, patches, width]),
    tileEmbedding(variables, config, "pre_tile_positional_embedding", inputs.tilings),
  );
  const token = variables.weight(`${path}.class_embedding`, [width]);
  const rows = withClassToken(
    variables,
    token,
    graph.reshape(placed, embedded.shape),
    inputs.patchRows,
    patches,
    product(["I", tiles]),
  );
  const positioned = graph.add(
    graph.reshape(rows, ["I", tiles, 1 + patches, width]),
    positions(variables, config, inputs),
  );
  const normed = variables.layerNorm(`${path}.layernorm_pre`, graph.reshape(positioned, rows.shape), outerNormEpsilon);
  const padded = product(["I", tiles, rowsOfTile(config)]);
  return graph.scatterRows(graph.fill(0, [padded, width]), inputs.seenRows, normed);
}

/** `[I, M, 1 + P, V]`: `(1 − tanh g)·position + tanh g·position of the tiling`. */
function positions(variables: Variables, config: MllamaVisionConfig, inputs: VisionInputs): Node {
  const { graph } = variables;
  const { hiddenSize: width, side, tiles, tilings } = config;
  const own = `${path}.gated_positional_embedding`;
  const rows = 1 + side ** 2;
  const gate = graph.unary("Tanh", variables.weight(`${own}.gate`, [1]));
  const plain = graph.mul(
    graph.sub(graph.scalar(1), gate),
    graph.reshape(variables.weight(`${own}.embedding`, [rows, width]), [1, 1, rows, width]),
  );
  const table = variables.weight(`${own}.tile_embedding.weight`, [1 + tilings.length, tiles * rows * width]);
  const ofTiling = graph.reshape(graph.gather(table, inputs.tilings), ["I", tiles, rows, width]);
  return graph.add(plain, graph.mul(gate, ofTiling));
}

/** `[I, M, 1, V]`: what is added to all rows of a tile for its place in the tiling. */
function tileEmbedding(
  variables: Variables,
  { hiddenSize: width, tiles, tilings }: MllamaVisionConfig,
  name: string,
  indices: Node,
): Node {
  const { graph } = variables;
  const table = variables.weight(`${path}.${name}.embedding.weight`, [1 + tilings.length, tiles * width]);
  const gate = graph.unary("Tanh", variables.weight(`${path}.${name}.gate`, [1]));
  return graph.mul(gate, graph.reshape(graph.gather(table, indices), ["I", tiles, 1, width]));
}

/** Pre-norm transformer layer: `x [I·M·L, V]` to the same shape; branches of gated ones are multiplied by tanh of a gate. */
function layer(
  variables: Variables,
  config: MllamaVisionConfig,
  own: string,
  x: Node,
  inputs: VisionInputs,
  isGated: boolean,
): Node {
  const { graph } = variables;
  const { hiddenSize: width, intermediateSize, heads, tiles } = config;
  const norm = (name: string, input: Node): Node => variables.layerNorm(`${own}.${name}`, input, config.epsilon);
  const branch = (residual: Node, name: string, y: Node): Node =>
    graph.add(residual, isGated ? graph.mul(graph.unary("Tanh", variables.weight(`${own}.${name}`, [1])), y) : y);
  const square = { in: width, out: width };
  const normed = norm("input_layernorm", x);
  const headsOf = (part: string): Node =>
    graph.transpose(
      graph.reshape(variables.linear(`${own}.self_attn.${part}_proj`, normed, square), [
        "I",
        tiles * rowsOfTile(config),
        heads,
        width / heads,
      ]),
      [0, 2, 1, 3],
    );
  const mixed = groupedAttention(variables, {
    query: headsOf("q"),
    key: headsOf("k"),
    value: headsOf("v"),
    mask: { reach: inputs.reach, order: inputs.order },
  });
  const middle = branch(x, "gate_attn", variables.linear(`${own}.self_attn.o_proj`, mixed, square));
  const hidden = variables.linear(`${own}.mlp.fc1`, norm("post_attention_layernorm", middle), {
    in: width,
    out: intermediateSize,
    hasBias: true,
  });
  const fed = variables.linear(`${own}.mlp.fc2`, graph.unary(config.activation, hidden), {
    in: intermediateSize,
    out: width,
    hasBias: true,
  });
  return branch(middle, "gate_ffn", fed);
}

/**
 * Rows `seen` of the last state, and behind it those of the intermediate ones: channel 0 of each, then channel 1 of each, as
 * the reference stacks them along a new last axis.
 */
function joined({ graph }: Variables, last: Node, intermediate: readonly Node[], seen: Node): Node {
  const [, width] = last.shape as [Dimension, number];
  const final = graph.gather(last, seen);
  if (intermediate.length === 0) return final;
  const [rows] = final.shape as [Dimension];
  const count = intermediate.length;
  const stacked = graph.concat(
    intermediate.map((state) => graph.reshape(graph.gather(state, seen), [rows, width, 1])),
    2,
  );
  return graph.concat([final, graph.reshape(stacked, [rows, width * count])], 1);
}
