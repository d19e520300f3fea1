/*
 * SigLIP's image tower: patches of one square picture with learned positions, no class token, a final layer norm.
 *
 * Symbols: K pictures. Shapes: P patches a picture, V width of the tower.
 * Source: `modeling_siglip.py` of huggingface/transformers 5.23.
 */
import { z } from "zod";
import type { Node } from "../../graph/ops.ts";
import type { Variables } from "../variables.ts";
import { activationOf, type Activation } from "./activations.ts";
import { badConfig } from "./config-file.ts";
import { withTilePositions } from "./class-token.ts";
import { encoderBlock } from "./encoder-block.ts";

export interface SiglipConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly channels: number;
  readonly patchSize: number;
  /** Patches a side of the picture. */
  readonly side: number;
  /** Pixels a side of the picture; patches may leave some over. */
  readonly imageSize: number;
  readonly epsilon: number;
  readonly activation: Activation;
}

/** The class's own values stand for what published files leave out. */
export const SiglipFile = z.looseObject({
  model_type: z.literal("siglip_vision_model", "only the tower of SigLIP is run").default("siglip_vision_model"),
  num_hidden_layers: z.number().default(12),
  hidden_size: z.number().default(768),
  intermediate_size: z.number().default(3072),
  num_attention_heads: z.number().default(12),
  num_channels: z.number().default(3),
  patch_size: z.number().default(16),
  image_size: z.number().default(224),
  layer_norm_eps: z.number().default(1e-6),
  hidden_act: z.string().default("gelu_pytorch_tanh"),
});

/** @param key  where the tower's part stands. @throws InvalidError (`bad_model_config`) naming the key of it */
export function readSiglip(file: z.output<typeof SiglipFile>, key = "vision_config"): SiglipConfig {
  // The convolution takes whole patches and leaves what is over.
  const side = Math.floor(file.image_size / file.patch_size);
  if (side < 1) throw badConfig(`${key}.image_size ${file.image_size} is less than patch_size ${file.patch_size}`);
  if (file.hidden_size % file.num_attention_heads !== 0)
    throw badConfig(
      `${key}.hidden_size ${file.hidden_size} does not divide by num_attention_heads ${file.num_attention_heads}`,
    );
  return {
    depth: file.num_hidden_layers,
    hiddenSize: file.hidden_size,
    intermediateSize: file.intermediate_size,
    heads: file.num_attention_heads,
    channels: file.num_channels,
    patchSize: file.patch_size,
    side,
    imageSize: file.image_size,
    epsilon: file.layer_norm_eps,
    activation: activationOf(file.hidden_act, `${key}.hidden_act`),
  };
}

/**
 * @param path     name of the tower's module
 * @param patches  `[P·K, channels·patch²]`
 * @returns        `[P·K, V]` after the final norm, and the rows after each block
 */
export function siglipTower(
  variables: Variables,
  config: SiglipConfig,
  path: string,
  patches: Node,
): { readonly features: Node; readonly blocks: readonly Node[] } {
  const { last, blocks } = siglipBlocks(variables, config, path, patches);
  return { features: variables.layerNorm(`${path}.post_layernorm`, last, config.epsilon), blocks };
}

/** The blocks alone: what `depth` of them give, with no norm behind them. */
export function siglipBlocks(
  variables: Variables,
  config: SiglipConfig,
  path: string,
  patches: Node,
): { readonly last: Node; readonly blocks: readonly Node[] } {
  const { graph } = variables;
  const { hiddenSize: width, channels, patchSize, side } = config;
  const weight = variables.weight(`${path}.embeddings.patch_embedding.weight`, [width, channels, patchSize, patchSize]);
  const embedded = graph.gemm(patches, graph.reshape(weight, [width, channels * patchSize ** 2]), {
    transB: true,
    c: variables.weight(`${path}.embeddings.patch_embedding.bias`, [width]),
  });
  const positions = variables.weight(`${path}.embeddings.position_embedding.weight`, [side ** 2, width]);
  let last = withTilePositions(variables, embedded, positions);
  const blocks: Node[] = [];
  const settings = { ...config, rowsPerTile: side ** 2 };
  for (let index = 0; index < config.depth; index++) {
    last = graph.within(`vision_tower.${index}`, () =>
      encoderBlock(variables, settings, `${path}.encoder.layers.${index}`, last),
    );
    blocks.push(last);
  }
  return { last, blocks };
}
