import type { ModelFacts } from "./model-facts.ts";
import { qwen3Vision } from "./qwen-vision.ts";

/** Qwen3-VL-2B: Qwen3 decoder with DeepStack, interleaved M-RoPE and a 16-pixel patch tower. */
export const qwen3Vl2b: ModelFacts = {
  name: "qwen3-vl-2b",
  title: "Qwen3-VL-2B",
  family: "qwen3-vl",
  repository: "Qwen/Qwen3-VL-2B-Instruct",
  license: "Apache-2.0",
  contextWindow: 262_144,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "json-relative-1000",
  architecture: {
    text: {
      hiddenSize: 2048,
      layers: 28,
      heads: 16,
      keyValueHeads: 8,
      headSize: 128,
      intermediateSize: 6144,
      vocabularySize: 151_936,
      tiedEmbeddings: true,
      queryKeyValueBias: false,
      queryKeyNorm: true,
      outputGate: false,
      linearAttention: null,
    },
    ...qwen3Vision({
      hiddenSize: 1024,
      layers: 24,
      heads: 16,
      intermediateSize: 4096,
      outputSize: 2048,
      patchSize: 16,
      mergeSize: 2,
      positionRows: 2304,
      deepstackMergers: 3,
    }),
  },
  provenance: {
    level: "inferred",
    note: "The MLP width is inferred; the rest agrees in several copies of the published config.json.",
  },
};
