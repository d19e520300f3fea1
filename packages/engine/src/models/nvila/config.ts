import { z } from "zod";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { layerOf } from "../parts/feature-layer.ts";
import { readPlainText, type PlainText } from "../parts/plain-text-config.ts";
import { readSiglip, SiglipFile, type SiglipConfig } from "../parts/siglip-tower.ts";

/** What the graphs need to know of an NVILA-Lite model, in any of its published layouts. */
export interface NvilaConfig {
  readonly text: PlainText;
  /** Only the blocks up to the features. */
  readonly vision: SiglipConfig;
  /** Tiles of a picture that is alone in its conversation. */
  readonly tiling: { readonly minTiles: number; readonly maxTiles: number };
  /** Undefined where config.json leaves it to the tokenizer. */
  readonly imageTokenId: number | undefined;
}

const off = (what: string) =>
  z
    .union([z.literal(false), z.literal("")], `${what} is not run`)
    .nullish()
    .optional();

/** What both layouts may say of pictures; the defaults are those of `LlavaConfig` and of the Lite models' scripts. */
const pictures = {
  image_aspect_ratio: z.literal("dynamic", 'only "dynamic" is run').default("dynamic"),
  min_tiles: z.int().positive().default(1),
  max_tiles: z.int().positive().default(12),
  mm_vision_select_layer: z.int().default(-2),
  mm_vision_select_feature: z
    .literal("cls_patch", 'only "cls_patch" is run: this tower has no class token to leave out')
    .default("cls_patch"),
  mm_use_im_start_end: off("a pair of tokens around pictures"),
  s2: off("a tower of several scales"),
  dynamic_s2: off("a tower of several scales"),
  ps3: off("a tower that looks twice"),
};

const PartsFile = z.looseObject({
  llm_cfg: z.looseObject({}, "must be the configuration of the decoder, as llm/config.json holds it"),
  vision_tower_cfg: SiglipFile,
  mm_projector_cfg: z.looseObject({
    mm_projector_type: z.literal(
      "mlp_downsample_3x3_fix",
      'only "mlp_downsample_3x3_fix", the bridge of NVILA-Lite, is run',
    ),
  }),
  image_encoder: z.unknown().optional(),
  ...pictures,
});

const FlatFile = z.looseObject({
  text_config: z.looseObject({}),
  vision_config: SiglipFile,
  image_token_id: z.int().nonnegative(),
  ...pictures,
});

/**
 * Reads the `config.json` of a folder with a sub-folder a part (`llm`, `vision_tower`, `mm_projector`), whose configurations it
 * holds under `llm_cfg`, `vision_tower_cfg` and `mm_projector_cfg`. Source: `configuration_llava.py` of NVlabs/VILA.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseNvilaParts(file: unknown): NvilaConfig {
  const { llm_cfg: text, vision_tower_cfg: vision, image_encoder: encoder, ...top } = readConfigFile(PartsFile, file);
  refuseOtherEncoder(encoder);
  return {
    text: readPlainText("llm_cfg", text, (own) => own ?? false),
    vision: towerOf("vision_tower_cfg", vision, top.mm_vision_select_layer),
    tiling: tilingOf(top),
    imageTokenId: undefined,
  };
}

/**
 * Reads a `config.json` of `model_type: nvila_lite`, one folder for all parts.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseNvilaLite(file: unknown): NvilaConfig {
  const { text_config: text, vision_config: vision, ...top } = readConfigFile(FlatFile, file);
  return {
    text: readPlainText("text_config", { model_type: "qwen2", ...text }, (own) => own ?? false),
    vision: towerOf("vision_config", vision, top.mm_vision_select_layer),
    tiling: tilingOf(top),
    imageTokenId: top.image_token_id,
  };
}

function towerOf(key: string, file: z.output<typeof SiglipFile>, selectLayer: number): SiglipConfig {
  const vision = readSiglip(file, key);
  const depth = layerOf("mm_vision_select_layer", selectLayer, vision.depth);
  if (vision.side * vision.patchSize !== vision.imageSize)
    throw badConfig(`${key}.image_size ${vision.imageSize} is no multiple of patch_size ${vision.patchSize}`);
  return { ...vision, depth };
}

function tilingOf(top: { readonly min_tiles: number; readonly max_tiles: number }): NvilaConfig["tiling"] {
  if (top.min_tiles > top.max_tiles)
    throw badConfig(`min_tiles ${top.min_tiles} is more than max_tiles ${top.max_tiles}`);
  return { minTiles: top.min_tiles, maxTiles: top.max_tiles };
}

const Encoder = z.looseObject({
  _target_: z.string().regex(/BasicImageEncoder$/),
  start_tokens: z.null().optional(),
  end_tokens: z.literal("\n").optional(),
});

/** What stands around a picture's features: a line break behind them, as `BasicImageEncoder` has it unless told otherwise. */
function refuseOtherEncoder(encoder: unknown): void {
  if (encoder === undefined || encoder === null) return;
  if (!Encoder.safeParse(typeof encoder === "string" ? parsed(encoder) : encoder).success)
    throw badConfig(
      `image_encoder is ${JSON.stringify(encoder)}, which Drydock does not run; it runs BasicImageEncoder`,
    );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON is no encoder that is run; the caller says so with the text.
    return null;
  }
}
