import type { ConfigReader } from "./config-reader.ts";
import { readContextWindow, readDecoder, type Reading } from "./decoder-config.ts";
import { withTextDefaults } from "./text-defaults.ts";

/** SigLIP's own values stand for what published files leave out. Source: `SiglipVisionConfig` of huggingface/transformers 5.23. */
export function readPaliGemma(config: ConfigReader): Reading {
  const vision = config.nested("vision_config");
  const hidden = vision.optionalNumber("hidden_size") ?? 768;
  const patch = vision.optionalNumber("patch_size") ?? 16;
  // The tower takes whole patches and leaves what is over.
  const side = Math.floor((vision.optionalNumber("image_size") ?? 224) / patch);
  const own = config.nestedWith("text_config", (section) => withTextDefaults(section, "gemma"));
  const text = {
    ...readDecoder(own, { queryKeyValueBias: false, queryKeyNorm: false, isHybrid: false }),
    tiedEmbeddings: config.optionalBoolean("tie_word_embeddings") ?? true,
    ...(own.optionalText("model_type") === "gemma2" ? { branchNorms: true } : {}),
  };
  return {
    family: "paligemma",
    boxConvention: "paligemma-loc",
    contextWindow: readContextWindow(own),
    architecture: {
      text,
      vision: {
        hiddenSize: hidden,
        layers: vision.optionalNumber("num_hidden_layers") ?? 12,
        heads: vision.optionalNumber("num_attention_heads") ?? 12,
        intermediateSize: vision.optionalNumber("intermediate_size") ?? 3072,
        gatedMlp: false,
        norm: "layer",
        patchValues: (vision.optionalNumber("num_channels") ?? 3) * patch ** 2,
        patchBias: true,
        positionRows: side ** 2,
        classToken: false,
        layerScale: false,
        finalNorm: true,
        patchesPerToken: 1,
      },
      bridge: { blocks: [{ normParameters: 0, linears: [[hidden, text.hiddenSize]] }] },
      visualTokens: {
        kind: "tiles",
        tileSize: side * patch,
        patchSize: patch,
        tokensPerTile: side ** 2,
        extraTokensPerTile: 0,
        minTiles: 1,
        maxTiles: 1,
        delimiterTokens: 0,
      },
    },
  };
}
