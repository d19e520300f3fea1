import type { ModelFacts } from "./model-facts.ts";

/** Why NVILA-Lite is trained in full mode only: plans and the engine give the same reason. */
export const nvilaLoraRefusal =
  "its checkpoint is three separate folders (llm, vision_tower, mm_projector) that no adapter format addresses as one model, and its makers train tower, projector and decoder together";

/** NVILA-Lite-2B: SigLIP tower on 448-pixel tiles, 3×3 down-sampling to 121 tokens a tile, Qwen2-1.5B decoder. */
export const nvilaLite2b: ModelFacts = {
  name: "nvila-lite-2b",
  title: "NVILA-Lite-2B",
  family: "nvila-lite",
  repository: "Efficient-Large-Model/NVILA-Lite-2B",
  license: "CC-BY-NC-4.0 (weights, no commercial use)",
  contextWindow: 4096,
  modes: ["full"],
  modeRefusal: nvilaLoraRefusal,
  boxConvention: "undocumented",
  architecture: {
    text: {
      hiddenSize: 1536,
      layers: 28,
      heads: 12,
      keyValueHeads: 2,
      headSize: 128,
      intermediateSize: 8960,
      vocabularySize: 151_936,
      tiedEmbeddings: true,
      queryKeyValueBias: true,
      queryKeyNorm: false,
      outputGate: false,
      linearAttention: null,
    },
    vision: {
      hiddenSize: 1152,
      layers: 27,
      heads: 16,
      intermediateSize: 4304,
      gatedMlp: false,
      norm: "layer",
      patchValues: 3 * 14 ** 2,
      patchBias: true,
      positionRows: 1024,
      classToken: false,
      layerScale: false,
      finalNorm: true,
      patchesPerToken: 9,
    },
    bridge: {
      blocks: [
        {
          normParameters: 2 * 10_368 + 2 * 3456,
          linears: [
            [10_368, 3456],
            [3456, 1536],
            [1536, 1536],
          ],
        },
      ],
    },
    visualTokens: {
      kind: "tiles",
      tileSize: 448,
      patchSize: 14,
      tokensPerTile: 121,
      extraTokensPerTile: 2,
      minTiles: 1,
      maxTiles: 12,
      delimiterTokens: 0,
    },
  },
  provenance: {
    level: "inferred",
    note: "No public copy of config.json is known: sizes are those of Qwen2-1.5B and SigLIP so400m, the context that of the training scripts. Read from the checkpoint's files once it is opened.",
  },
};
