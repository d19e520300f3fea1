import type { ModelFacts } from "./model-facts.ts";

/** InternVL3.5-8B: InternViT-300M on 448-pixel tiles, pixel shuffle to 256 tokens a tile, Qwen3-8B decoder. */
export const internvl35_8b: ModelFacts = {
  name: "internvl3.5-8b",
  title: "InternVL3.5-8B",
  family: "internvl3.5",
  repository: "OpenGVLab/InternVL3_5-8B-HF",
  license: "Apache-2.0",
  contextWindow: 40_960,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "internvl-ref-box",
  architecture: {
    text: {
      hiddenSize: 4096,
      layers: 36,
      heads: 32,
      keyValueHeads: 8,
      headSize: 128,
      intermediateSize: 12_288,
      vocabularySize: 151_936,
      tiedEmbeddings: false,
      queryKeyValueBias: false,
      queryKeyNorm: true,
      outputGate: false,
      linearAttention: null,
    },
    vision: {
      hiddenSize: 1024,
      layers: 24,
      heads: 16,
      intermediateSize: 4096,
      gatedMlp: false,
      norm: "layer",
      patchValues: 3 * 14 ** 2,
      patchBias: true,
      positionRows: 1025,
      classToken: true,
      layerScale: true,
      finalNorm: false,
      patchesPerToken: 4,
    },
    bridge: {
      blocks: [
        {
          normParameters: 2 * 4096,
          linears: [
            [4096, 4096],
            [4096, 4096],
          ],
        },
      ],
    },
    visualTokens: {
      kind: "tiles",
      tileSize: 448,
      patchSize: 14,
      tokensPerTile: 256,
      extraTokensPerTile: 0,
      minTiles: 1,
      maxTiles: 12,
      delimiterTokens: 2,
    },
  },
  provenance: {
    level: "inferred",
    note: "Text sizes are those of Qwen3-8B and vision sizes the class defaults; the checkpoint's own config.json was not compared.",
  },
};
