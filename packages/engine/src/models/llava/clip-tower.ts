/*
 * CLIP's image tower and LLaVA's bridge. Choices that make the tower differ: a class token, learned positions, a layer norm
 * before the first block (`pre_layrnorm`, as its weights spell it), and the state before the last block as the features; what
 * lies behind that state (the last block, a final norm) is in the files but not computed.
 *
 * Symbols: K pictures. Shapes: P patches a picture, V width of the tower, D width of the decoder.
 * Source: `modeling_clip.py` and `modeling_llava.py` of huggingface/transformers 5.23.
 */
import type { Node } from "../../graph/ops.ts";
import { withClassToken, withTilePositions } from "../parts/class-token.ts";
import { tileAttention } from "../parts/tile-attention.ts";
import type { TileFeatures, TileInputs } from "../parts/tiled-model.ts";
import type { Variables } from "../variables.ts";
import type { ClipVisionConfig, LlavaConfig } from "./config.ts";

const tower = "model.vision_tower";
const bridge = "model.multi_modal_projector";

export function clipVision(variables: Variables, config: LlavaConfig, inputs: TileInputs): TileFeatures {
  const { graph } = variables;
  const { vision, keepsClassToken } = config;
  let x = variables.layerNorm(`${tower}.pre_layrnorm`, embeddedPictures(variables, vision, inputs), vision.epsilon);
  const blocks: Node[] = [];
  for (let index = 0; index < vision.featureLayer; index++) {
    x = graph.within(`vision_tower.${index}`, () => block(variables, vision, `${tower}.encoder.layers.${index}`, x));
    blocks.push(x);
  }
  const seen = keepsClassToken ? x : graph.gather(x, inputs.patchRows);
  return { features: projected(variables, config, seen), blocks };
}

/** `[(1 + P)·K, V]`: class token and patches of each picture, positions added. */
function embeddedPictures(variables: Variables, config: ClipVisionConfig, inputs: TileInputs): Node {
  const { graph } = variables;
  const { hiddenSize: width, channels, patchSize, side } = config;
  const path = `${tower}.embeddings`;
  const weight = variables.weight(`${path}.patch_embedding.weight`, [width, channels, patchSize, patchSize]);
  const embedded = graph.gemm(inputs.patches, graph.reshape(weight, [width, channels * patchSize ** 2]), {
    transB: true,
  });
  const token = variables.weight(`${path}.class_embedding`, [width]);
  const rows = withClassToken(variables, token, embedded, inputs.patchRows, side ** 2);
  return withTilePositions(
    variables,
    rows,
    variables.weight(`${path}.position_embedding.weight`, [1 + side ** 2, width]),
  );
}

/** Pre-norm transformer block: `x [(1 + P)·K, V]` to the same shape. */
function block(variables: Variables, config: ClipVisionConfig, path: string, x: Node): Node {
  const { graph } = variables;
  const { hiddenSize: width, intermediateSize } = config;
  const norm = (name: string, input: Node): Node => variables.layerNorm(`${path}.${name}`, input, config.epsilon);
  const attention = {
    width,
    heads: config.heads,
    rowsPerTile: 1 + config.side ** 2,
    hasQueryKeyValueBias: true,
    output: "out_proj",
  };
  const middle = graph.add(x, tileAttention(variables, attention, `${path}.self_attn`, norm("layer_norm1", x)));
  const hidden = variables.linear(`${path}.mlp.fc1`, norm("layer_norm2", middle), {
    in: width,
    out: intermediateSize,
    hasBias: true,
  });
  const mixed = variables.linear(`${path}.mlp.fc2`, graph.unary(config.activation, hidden), {
    in: intermediateSize,
    out: width,
    hasBias: true,
  });
  return graph.add(middle, mixed);
}

/** `[n, V]` to `[n, D]`. */
function projected(variables: Variables, { vision, text, bridge: settings }: LlavaConfig, x: Node): Node {
  const width = text.decoder.hiddenSize;
  const { hasBias, activation } = settings;
  const hidden = variables.linear(`${bridge}.linear_1`, x, { in: vision.hiddenSize, out: width, hasBias });
  return variables.linear(`${bridge}.linear_2`, variables.graph.unary(activation, hidden), {
    in: width,
    out: width,
    hasBias,
  });
}
