import { z } from "zod";
import { activationOf, type Activation } from "../parts/activations.ts";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { layerOf } from "../parts/feature-layer.ts";
import { readPlainText, type PlainText } from "../parts/plain-text-config.ts";

/** What the graphs need to know of an InternVL model, in either of its published forms. */
export interface InternVlConfig {
  readonly text: PlainText;
  readonly vision: InternVisionConfig;
  readonly tiling: TilingConfig;
  /** Undefined where config.json leaves it to the tokenizer. */
  readonly imageTokenId: number | undefined;
}

/** InternViT and the bridge behind it. */
export interface InternVisionConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly channels: number;
  readonly patchSize: number;
  /** Patches a side of a tile. */
  readonly side: number;
  readonly hasQueryKeyValueBias: boolean;
  /** Of the RMS norms over whole queries and keys; undefined = there are none. */
  readonly queryKeyNormEpsilon: number | undefined;
  readonly norm: "layer" | "rms";
  readonly epsilon: number;
  readonly activation: Activation;
  readonly hasPositions: boolean;
  /** Whether a layer norm follows the last block. */
  readonly hasFinalNorm: boolean;
  /** Blocks whose output goes to the bridge; the state before the first is 0. */
  readonly featureLayer: number;
  /** Side of the square of patches that become one visual token. */
  readonly mergeSize: number;
  readonly bridgeActivation: Activation;
}

/** How pictures are cut where the preprocessor file leaves it open. */
export interface TilingConfig {
  readonly isDynamic: boolean;
  readonly minTiles: number;
  readonly maxTiles: number;
  readonly hasThumbnail: boolean;
}

const Size = z.union([z.number(), z.tuple([z.number(), z.number()])]);

const NativeVision = z.looseObject({
  num_hidden_layers: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_attention_heads: z.number(),
  num_channels: z.number().default(3),
  patch_size: Size,
  image_size: Size,
  attention_bias: z.boolean().default(false),
  use_qk_norm: z.boolean().default(false),
  norm_type: z.enum(["layer_norm", "rms_norm"]).default("layer_norm"),
  layer_norm_eps: z.number().default(1e-6),
  hidden_act: z.string().default("gelu"),
  use_absolute_position_embeddings: z.boolean().default(true),
  use_mean_pooling: z.boolean().default(true),
  use_mask_token: z.boolean().default(false),
});

const NativeFile = z.looseObject({
  model_type: z.literal("internvl"),
  text_config: z.unknown(),
  vision_config: NativeVision,
  image_token_id: z.number(),
  downsample_ratio: z.number().positive().default(0.5),
  projector_hidden_act: z.string().default("gelu"),
  vision_feature_layer: z.number().default(-1),
  vision_feature_select_strategy: z.literal("default").default("default"),
  tie_word_embeddings: z.boolean().optional(),
});

/** Norms of queries and keys have this epsilon whatever the file says, unlike those of the remote-code form. */
const nativeQueryKeyNormEpsilon = 1e-6;

/**
 * Reads a `config.json` of `model_type: internvl`.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseInternVlConfig(file: unknown): InternVlConfig {
  const { vision_config: vision, ...top } = readConfigFile(NativeFile, file);
  if (vision.use_mask_token) throw badConfig("vision_config.use_mask_token is true, which Drydock does not run");
  return {
    text: readPlainText("text_config", top.text_config, (own) => top.tie_word_embeddings ?? own ?? true),
    vision: {
      ...shapeOf("vision_config", vision, top.downsample_ratio),
      hasQueryKeyValueBias: vision.attention_bias,
      queryKeyNormEpsilon: vision.use_qk_norm ? nativeQueryKeyNormEpsilon : undefined,
      hasPositions: vision.use_absolute_position_embeddings,
      hasFinalNorm: !vision.use_mean_pooling,
      featureLayer: layerOf("vision_feature_layer", top.vision_feature_layer, vision.num_hidden_layers),
      bridgeActivation: activationOf(top.projector_hidden_act, "projector_hidden_act"),
    },
    tiling: { isDynamic: true, minTiles: 1, maxTiles: 12, hasThumbnail: true },
    imageTokenId: top.image_token_id,
  };
}

const RemoteVision = z.looseObject({
  num_hidden_layers: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_attention_heads: z.number(),
  num_channels: z.number().default(3),
  patch_size: z.number(),
  image_size: z.number(),
  qkv_bias: z.boolean().default(false),
  qk_normalization: z.boolean().default(true),
  norm_type: z.enum(["layer_norm", "rms_norm"]).default("rms_norm"),
  layer_norm_eps: z.number().default(1e-6),
  hidden_act: z.string().default("gelu"),
});

const RemoteFile = z.looseObject({
  model_type: z.literal("internvl_chat"),
  llm_config: z.unknown(),
  vision_config: RemoteVision,
  img_context_token_id: z.number().nullish(),
  image_token_id: z.number().nullish(),
  downsample_ratio: z.number().positive().default(0.5),
  select_layer: z.number().default(-1),
  ps_version: z.literal("v2", 'only "v2" is run').default("v2"),
  force_image_size: z.number().nullish(),
  dynamic_image_size: z.boolean().default(false),
  use_thumbnail: z.boolean().default(false),
  min_dynamic_patch: z.int().positive().default(1),
  max_dynamic_patch: z.int().positive().default(6),
});

/**
 * Reads a `config.json` of `model_type: internvl_chat`, the form with code of its own. Source: `configuration_internvl_chat.py`
 * and `modeling_internvl_chat.py` of the InternVL repository.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseInternVlChatConfig(file: unknown): InternVlConfig {
  const { vision_config: vision, ...top } = readConfigFile(RemoteFile, file);
  if (top.force_image_size && top.force_image_size !== vision.image_size)
    throw badConfig(
      `force_image_size ${top.force_image_size} is not vision_config.image_size ${vision.image_size}, which Drydock does not run`,
    );
  return {
    text: readPlainText("llm_config", top.llm_config, (own) => own ?? false),
    vision: {
      ...shapeOf("vision_config", vision, top.downsample_ratio),
      hasQueryKeyValueBias: vision.qkv_bias,
      queryKeyNormEpsilon: vision.qk_normalization ? vision.layer_norm_eps : undefined,
      hasPositions: true,
      hasFinalNorm: false,
      featureLayer: layerOf("select_layer", top.select_layer, vision.num_hidden_layers),
      bridgeActivation: "Gelu",
    },
    tiling: {
      isDynamic: top.dynamic_image_size,
      minTiles: top.min_dynamic_patch,
      maxTiles: top.max_dynamic_patch,
      hasThumbnail: top.use_thumbnail,
    },
    imageTokenId: top.img_context_token_id ?? top.image_token_id ?? undefined,
  };
}

/** What both forms say in the same words. */
function shapeOf(
  key: string,
  vision: z.output<typeof NativeVision> | z.output<typeof RemoteVision>,
  downsampleRatio: number,
): Pick<
  InternVisionConfig,
  | "depth"
  | "hiddenSize"
  | "intermediateSize"
  | "heads"
  | "channels"
  | "patchSize"
  | "side"
  | "norm"
  | "epsilon"
  | "activation"
  | "mergeSize"
> {
  const patchSize = squareSide(`${key}.patch_size`, vision.patch_size);
  const imageSize = squareSide(`${key}.image_size`, vision.image_size);
  const side = imageSize / patchSize;
  if (!Number.isInteger(side))
    throw badConfig(`${key}.image_size ${imageSize} is no multiple of patch_size ${patchSize}`);
  if (vision.hidden_size % vision.num_attention_heads !== 0)
    throw badConfig(
      `${key}.hidden_size ${vision.hidden_size} does not divide by num_attention_heads ${vision.num_attention_heads}`,
    );
  const mergeSize = Math.trunc(1 / downsampleRatio);
  if (mergeSize < 1 || side % mergeSize !== 0)
    throw badConfig(`downsample_ratio ${downsampleRatio} does not fit ${side} patches a side`);
  return {
    depth: vision.num_hidden_layers,
    hiddenSize: vision.hidden_size,
    intermediateSize: vision.intermediate_size,
    heads: vision.num_attention_heads,
    channels: vision.num_channels,
    patchSize,
    side,
    norm: vision.norm_type === "layer_norm" ? "layer" : "rms",
    epsilon: vision.layer_norm_eps,
    activation: activationOf(vision.hidden_act, `${key}.hidden_act`),
    mergeSize,
  };
}

function squareSide(key: string, size: z.output<typeof Size>): number {
  if (typeof size === "number") return size;
  if (size[0] !== size[1]) throw badConfig(`${key} [${size.join(", ")}] is not square, which Drydock does not run`);
  return size[0];
}
