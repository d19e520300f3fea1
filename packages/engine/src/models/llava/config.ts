import { withTextDefaults, type Resolution } from "@drydock/spec";
import { z } from "zod";
import { activationOf, type Activation } from "../parts/activations.ts";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { layerOf } from "../parts/feature-layer.ts";
import { readPlainText, type PlainText } from "../parts/plain-text-config.ts";
import { isAmbiguous } from "./any-resolution.ts";

/** What the graphs need to know of a LLaVA model; every size comes from its config.json, or from the class that it names. */
export interface LlavaConfig {
  readonly text: PlainText;
  readonly vision: ClipVisionConfig;
  readonly bridge: { readonly activation: Activation; readonly hasBias: boolean };
  /** Whether the class token's features are handed on too. */
  readonly keepsClassToken: boolean;
  readonly imageTokenId: number;
  /** LLaVA-NeXT: what pictures may be padded to; height and width in pixels. Null: every picture is one square. */
  readonly resolutions: readonly Resolution[] | null;
}

/** CLIP's image tower. */
export interface ClipVisionConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly channels: number;
  readonly patchSize: number;
  /** Patches a side of the picture. */
  readonly side: number;
  readonly epsilon: number;
  readonly activation: Activation;
  /** Blocks whose output goes to the bridge; later ones are not computed. */
  readonly featureLayer: number;
}

const VisionFile = z.looseObject({
  model_type: z.literal("clip_vision_model", "only the tower of CLIP is run").default("clip_vision_model"),
  num_hidden_layers: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_attention_heads: z.number(),
  num_channels: z.number().default(3),
  patch_size: z.number(),
  image_size: z.number(),
  layer_norm_eps: z.number().default(1e-5),
  hidden_act: z.string().default("quick_gelu"),
});

const ConfigFile = z.looseObject({
  model_type: z.enum(["llava", "llava_next"]),
  text_config: z.unknown(),
  vision_config: VisionFile,
  image_token_index: z.number().optional(),
  image_token_id: z.number().optional(),
  projector_hidden_act: z.string().default("gelu"),
  multimodal_projector_bias: z.boolean().default(true),
  vision_feature_layer: z.union([z.number(), z.array(z.number())]).default(-2),
  vision_feature_select_strategy: z.enum(["default", "full"]).default("default"),
  tie_word_embeddings: z.boolean().optional(),
  image_grid_pinpoints: z
    .array(z.tuple([z.int().positive(), z.int().positive()]))
    .min(1)
    .nullish(),
});

const usualResolutions: readonly Resolution[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

/**
 * Reads a `config.json` of `model_type: llava` or `llava_next`.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseLlavaConfig(file: unknown): LlavaConfig {
  const { vision_config: vision, ...top } = readConfigFile(ConfigFile, file);
  const imageTokenId = top.image_token_index ?? top.image_token_id;
  if (imageTokenId === undefined) throw badConfig("image_token_index is missing");
  const side = vision.image_size / vision.patch_size;
  if (!Number.isInteger(side))
    throw badConfig(`vision_config.image_size ${vision.image_size} is no multiple of patch_size ${vision.patch_size}`);
  if (vision.hidden_size % vision.num_attention_heads !== 0)
    throw badConfig(
      `vision_config.hidden_size ${vision.hidden_size} does not divide by num_attention_heads ${vision.num_attention_heads}`,
    );
  const [layer, ...more] = [top.vision_feature_layer].flat();
  if (layer === undefined || more.length > 0)
    throw badConfig(
      `vision_feature_layer [${[top.vision_feature_layer].flat().join(", ")}] names several states of the tower; Drydock runs one`,
    );
  return {
    text: readPlainText(
      "text_config",
      withTextDefaults(top.text_config),
      // The class of LLaVA-1.5 copies what the text part says; that of LLaVA-NeXT does not.
      (own) => (top.tie_word_embeddings ?? false) || (top.model_type === "llava" && (own ?? false)),
    ),
    vision: {
      depth: vision.num_hidden_layers,
      hiddenSize: vision.hidden_size,
      intermediateSize: vision.intermediate_size,
      heads: vision.num_attention_heads,
      channels: vision.num_channels,
      patchSize: vision.patch_size,
      side,
      epsilon: vision.layer_norm_eps,
      activation: activationOf(vision.hidden_act, "vision_config.hidden_act"),
      featureLayer: layerOf("vision_feature_layer", layer, vision.num_hidden_layers),
    },
    bridge: {
      activation: activationOf(top.projector_hidden_act, "projector_hidden_act"),
      hasBias: top.multimodal_projector_bias,
    },
    keepsClassToken: top.vision_feature_select_strategy === "full",
    imageTokenId,
    resolutions: top.model_type === "llava_next" ? readResolutions(top, vision.image_size, side) : null,
  };
}

/**
 * Batches say of a picture how many tiles and visual tokens it has; what of the tiles shows the picture must follow from that.
 * It does for 24 patches a side, as published, with up to 24 tiles a side.
 */
function readResolutions(
  top: Pick<z.output<typeof ConfigFile>, "image_grid_pinpoints" | "vision_feature_select_strategy">,
  tileSize: number,
  side: number,
): readonly Resolution[] {
  if (top.vision_feature_select_strategy === "full")
    throw badConfig('vision_feature_select_strategy is "full", which makes no rows of patches for LLaVA-NeXT');
  const resolutions = top.image_grid_pinpoints ?? usualResolutions;
  for (const [height, width] of resolutions) {
    const tiling = { columns: width / tileSize, rows: height / tileSize };
    if (!Number.isInteger(tiling.columns) || !Number.isInteger(tiling.rows))
      throw badConfig(`image_grid_pinpoints: ${height} by ${width} is not made of tiles of ${tileSize}`);
    if (isAmbiguous(tiling, side))
      throw badConfig(`image_grid_pinpoints: ${height} by ${width} with ${side} patches a side of a tile is not run`);
  }
  return resolutions;
}
