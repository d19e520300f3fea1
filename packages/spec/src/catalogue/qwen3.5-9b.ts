import type { ModelFacts } from "./model-facts.ts";
import { qwen3Vision } from "./qwen-vision.ts";

/** Qwen3.5-9B: three gated DeltaNet layers to one gated attention layer, vocabulary of 248,320. */
export const qwen35_9b: ModelFacts = {
  name: "qwen3.5-9b",
  title: "Qwen3.5-9B",
  family: "qwen3.5",
  repository: "Qwen/Qwen3.5-9B",
  license: "Apache-2.0",
  contextWindow: 262_144,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "json-relative-1000",
  architecture: {
    text: {
      hiddenSize: 4096,
      layers: 32,
      heads: 16,
      keyValueHeads: 4,
      headSize: 256,
      intermediateSize: 12_288,
      vocabularySize: 248_320,
      tiedEmbeddings: false,
      queryKeyValueBias: false,
      queryKeyNorm: true,
      outputGate: true,
      linearAttention: {
        fullAttentionInterval: 4,
        keyHeads: 16,
        keyHeadSize: 128,
        valueHeads: 32,
        valueHeadSize: 128,
        convolutionKernel: 4,
      },
    },
    ...qwen3Vision({
      hiddenSize: 1152,
      layers: 27,
      heads: 16,
      intermediateSize: 4304,
      outputSize: 4096,
      patchSize: 16,
      mergeSize: 2,
      positionRows: 2304,
      deepstackMergers: 0,
    }),
  },
  provenance: {
    level: "agreeing-copies",
    note: "Class defaults of transformers and copies of config.json agree. The extra prediction layer (mtp) is not loaded and not counted.",
  },
};
