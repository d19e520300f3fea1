/*
 * InternViT with the bridge behind it. Choices that make it differ: every tile by itself with a class token, absolute
 * positions, learned scales on both branches of a block; then the class token is dropped, merge² neighbouring patches are
 * joined to one token (pixel shuffle), and a layer norm with two linear layers leads to the decoder's width.
 *
 * Patches come cell by cell: the merge² patches of a token follow each other, so that joining them is a reshape.
 *
 * Symbols: K tiles. Shapes: P patches a tile, M = merge², V width of the tower, D width of the decoder.
 * Source: `modeling_internvl.py` of huggingface/transformers 5.23; `modeling_intern_vit.py` of the InternVL repository.
 */
import type { Node } from "../../graph/ops.ts";
import { product } from "../../graph/shape.ts";
import { withClassToken, withTilePositions } from "../parts/class-token.ts";
import { tileAttention } from "../parts/tile-attention.ts";
import type { TileFeatures, TileInputs } from "../parts/tiled-model.ts";
import type { Variables } from "../variables.ts";
import type { InternVisionConfig } from "./config.ts";

const tower = "model.vision_tower";
const bridge = "model.multi_modal_projector";
/** The framework's default, whatever the tower's norms have. */
const bridgeEpsilon = 1e-5;

export function internVision(
  variables: Variables,
  config: InternVisionConfig,
  outputSize: number,
  inputs: TileInputs,
): TileFeatures {
  const { graph } = variables;
  let x = embeddedTiles(variables, config, inputs);
  const blocks: Node[] = [];
  for (let index = 0; index < config.featureLayer; index++) {
    x = graph.within(`vision_tower.${index}`, () => block(variables, config, `${tower}.encoder.layer.${index}`, x));
    blocks.push(x);
  }
  const isLast = config.featureLayer === config.depth;
  const seen = isLast && config.hasFinalNorm ? variables.layerNorm(`${tower}.layernorm`, x, config.epsilon) : x;
  const tokens = product(["K", (config.side / config.mergeSize) ** 2]);
  const joined = config.hiddenSize * config.mergeSize ** 2;
  const cells = graph.reshape(graph.gather(seen, inputs.patchRows), [tokens, joined]);
  return { features: projected(variables, config, cells, outputSize), blocks };
}

/** `[(1 + P)·K, V]`: class token and patches of each tile, positions added. */
function embeddedTiles(variables: Variables, config: InternVisionConfig, inputs: TileInputs): Node {
  const { graph } = variables;
  const { hiddenSize: width, channels, patchSize, side } = config;
  const path = `${tower}.embeddings`;
  const weight = variables.weight(`${path}.patch_embeddings.projection.weight`, [
    width,
    channels,
    patchSize,
    patchSize,
  ]);
  const embedded = graph.gemm(inputs.patches, graph.reshape(weight, [width, channels * patchSize ** 2]), {
    transB: true,
    c: variables.weight(`${path}.patch_embeddings.projection.bias`, [width]),
  });
  const token = variables.weight(`${path}.cls_token`, [1, 1, width]);
  const rows = withClassToken(variables, token, embedded, inputs.patchRows, side ** 2);
  if (!config.hasPositions) return rows;
  return withTilePositions(variables, rows, variables.weight(`${path}.position_embeddings`, [1, 1 + side ** 2, width]));
}

/** Pre-norm transformer block with scaled branches: `x [(1 + P)·K, V]` to the same shape. */
function block(variables: Variables, config: InternVisionConfig, path: string, x: Node): Node {
  const { graph } = variables;
  const { hiddenSize: width, intermediateSize } = config;
  const norm = (name: string, input: Node): Node =>
    config.norm === "layer"
      ? variables.layerNorm(`${path}.${name}`, input, config.epsilon)
      : variables.rmsNorm(`${path}.${name}`, input, config.epsilon);
  const scaled = (name: string, branch: Node): Node => graph.mul(branch, variables.weight(`${path}.${name}`, [width]));
  const attention = {
    width,
    heads: config.heads,
    rowsPerTile: 1 + config.side ** 2,
    hasQueryKeyValueBias: config.hasQueryKeyValueBias,
    output: "projection_layer",
    queryKeyNormEpsilon: config.queryKeyNormEpsilon,
  };
  const attended = tileAttention(variables, attention, `${path}.attention`, norm("layernorm_before", x));
  const middle = graph.add(scaled("lambda_1", attended), x);
  const hidden = variables.linear(`${path}.mlp.fc1`, norm("layernorm_after", middle), {
    in: width,
    out: intermediateSize,
    hasBias: true,
  });
  const mixed = variables.linear(`${path}.mlp.fc2`, graph.unary(config.activation, hidden), {
    in: intermediateSize,
    out: width,
    hasBias: true,
  });
  return graph.add(scaled("lambda_2", mixed), middle);
}

/** `[(P/M)·K, M·V]` to `[(P/M)·K, D]`. */
function projected(variables: Variables, config: InternVisionConfig, cells: Node, outputSize: number): Node {
  const joined = config.hiddenSize * config.mergeSize ** 2;
  const normed = variables.layerNorm(`${bridge}.layer_norm`, cells, bridgeEpsilon);
  const hidden = variables.linear(`${bridge}.linear_1`, normed, { in: joined, out: outputSize, hasBias: true });
  return variables.linear(`${bridge}.linear_2`, variables.graph.unary(config.bridgeActivation, hidden), {
    in: outputSize,
    out: outputSize,
    hasBias: true,
  });
}
