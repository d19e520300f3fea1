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
import { encoderBlock } from "../parts/encoder-block.ts";
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
  const settings = { ...vision, rowsPerTile: 1 + vision.side ** 2 };
  for (let index = 0; index < vision.featureLayer; index++) {
    x = graph.within(`vision_tower.${index}`, () =>
      encoderBlock(variables, settings, `${tower}.encoder.layers.${index}`, x),
    );
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
