import type { ConfigReader } from "./config-reader.ts";
import { readContextWindow, readDecoder, type Reading } from "./decoder-config.ts";
import { withTextDefaults } from "./text-defaults.ts";

/** Where the two published forms of InternVL say the same in other words. */
interface InternVlForm {
  readonly text: string;
  readonly queryKeyValueBias: string;
  readonly queryKeyNorm: string;
  /** What is true where the vision part does not say it. */
  readonly defaults: { readonly queryKeyNorm: boolean; readonly norm: string };
  readonly tiles: (config: ConfigReader, preprocessor: ConfigReader) => { minTiles: number; maxTiles: number };
  /** Where it stands whether input and output embeddings are one tensor. */
  readonly ties: (config: ConfigReader, text: ConfigReader) => boolean;
}

export const nativeInternVl: InternVlForm = {
  text: "text_config",
  queryKeyValueBias: "attention_bias",
  queryKeyNorm: "use_qk_norm",
  defaults: { queryKeyNorm: false, norm: "layer_norm" },
  tiles: (_config, preprocessor) => ({
    minTiles: preprocessor.optionalNumber("min_patches") ?? 1,
    maxTiles: preprocessor.optionalNumber("max_patches") ?? 12,
  }),
  ties: (config, text) =>
    config.optionalBoolean("tie_word_embeddings") ?? text.optionalBoolean("tie_word_embeddings") ?? true,
};

/** The form with code of its own (`internvl_chat`), where config.json says how pictures are cut. */
export const remoteInternVl: InternVlForm = {
  text: "llm_config",
  queryKeyValueBias: "qkv_bias",
  queryKeyNorm: "qk_normalization",
  defaults: { queryKeyNorm: true, norm: "rms_norm" },
  tiles: (config) =>
    config.optionalBoolean("dynamic_image_size")
      ? {
          minTiles: config.optionalNumber("min_dynamic_patch") ?? 1,
          maxTiles: config.optionalNumber("max_dynamic_patch") ?? 6,
        }
      : { minTiles: 1, maxTiles: 1 },
  ties: (_config, text) => text.optionalBoolean("tie_word_embeddings") ?? false,
};

/** Both forms of InternVL. */
export function readInternVl(config: ConfigReader, preprocessor: ConfigReader, form: InternVlForm): Reading {
  const vision = config.nested("vision_config");
  const hidden = vision.number("hidden_size");
  const side = vision.numberOrFirst("image_size");
  const patch = vision.numberOrFirst("patch_size");
  const patches = (side / patch) ** 2;
  const own = config.nested(form.text);
  const isQwen2 = own.optionalText("model_type") === "qwen2";
  const text = {
    ...readDecoder(own, { queryKeyValueBias: isQwen2, queryKeyNorm: !isQwen2, isHybrid: false }),
    tiedEmbeddings: form.ties(config, own),
  };
  const shrink = Math.round(1 / config.number("downsample_ratio")) ** 2;
  const hasBias = vision.optionalBoolean(form.queryKeyValueBias) ?? false;
  const hasHeadNorm = vision.optionalBoolean(form.queryKeyNorm) ?? form.defaults.queryKeyNorm;
  return {
    family: "internvl3.5",
    boxConvention: "internvl-ref-box",
    contextWindow: readContextWindow(own),
    architecture: {
      text,
      vision: {
        hiddenSize: hidden,
        layers: vision.number("num_hidden_layers"),
        heads: vision.number("num_attention_heads"),
        intermediateSize: vision.number("intermediate_size"),
        gatedMlp: false,
        norm: (vision.optionalText("norm_type") ?? form.defaults.norm) === "rms_norm" ? "rms" : "layer",
        patchValues: 3 * patch ** 2,
        patchBias: true,
        positionRows: patches + 1,
        classToken: true,
        layerScale: true,
        finalNorm: vision.optionalBoolean("use_mean_pooling") === false,
        ...(hasBias ? {} : { queryKeyValueBias: false }),
        ...(hasHeadNorm ? { queryKeyNorm: true } : {}),
        patchesPerToken: shrink,
      },
      bridge: {
        blocks: [
          {
            normParameters: 2 * hidden * shrink,
            linears: [
              [hidden * shrink, text.hiddenSize],
              [text.hiddenSize, text.hiddenSize],
            ],
          },
        ],
      },
      visualTokens: {
        kind: "tiles",
        tileSize: side,
        patchSize: patch,
        tokensPerTile: patches / shrink,
        extraTokensPerTile: 0,
        ...form.tiles(config, preprocessor),
        delimiterTokens: 2,
      },
    },
  };
}

/** LLaVA-NeXT: resolutions as its config.json lists them, height first. */
export function readLlavaNext(config: ConfigReader): Reading {
  return readLlava(config, config.pairs("image_grid_pinpoints") ?? usualResolutions);
}

const usualResolutions = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
] as const;

/** LLaVA-1.5, and with resolutions LLaVA-NeXT. */
export function readLlava(config: ConfigReader, resolutions: readonly (readonly [number, number])[] | null): Reading {
  const vision = config.nested("vision_config");
  const hidden = vision.number("hidden_size");
  const side = vision.number("image_size");
  const patch = vision.number("patch_size");
  const patches = (side / patch) ** 2;
  const own = config.nestedWith("text_config", withTextDefaults);
  const text = {
    ...readDecoder(own, {
      queryKeyValueBias: own.optionalText("model_type") === "qwen2",
      queryKeyNorm: false,
      isHybrid: false,
    }),
    tiedEmbeddings:
      (config.optionalBoolean("tie_word_embeddings") ?? false) ||
      (resolutions === null && (own.optionalBoolean("tie_word_embeddings") ?? false)),
  };
  const keepsClassToken = config.optionalText("vision_feature_select_strategy") === "full";
  return {
    family: "llava",
    boxConvention: "undocumented",
    contextWindow: readContextWindow(own),
    architecture: {
      text,
      vision: {
        hiddenSize: hidden,
        layers: vision.number("num_hidden_layers"),
        heads: vision.number("num_attention_heads"),
        intermediateSize: vision.number("intermediate_size"),
        gatedMlp: false,
        norm: "layer",
        patchValues: 3 * patch ** 2,
        patchBias: false,
        positionRows: patches + 1,
        classToken: true,
        layerScale: false,
        finalNorm: true,
        firstNorm: true,
        patchesPerToken: 1,
      },
      bridge: {
        blocks: [
          {
            // The learned end of line of LLaVA-NeXT.
            normParameters: resolutions ? text.hiddenSize : 0,
            linears: [
              [hidden, text.hiddenSize],
              [text.hiddenSize, text.hiddenSize],
            ],
            ...(config.optionalBoolean("multimodal_projector_bias") === false ? { biases: false } : {}),
          },
        ],
      },
      visualTokens: resolutions
        ? { kind: "any-resolution", tileSize: side, patchSize: patch, resolutions }
        : {
            kind: "tiles",
            tileSize: side,
            patchSize: patch,
            tokensPerTile: patches + (keepsClassToken ? 1 : 0),
            extraTokensPerTile: 0,
            minTiles: 1,
            maxTiles: 1,
            delimiterTokens: 0,
          },
    },
  };
}
