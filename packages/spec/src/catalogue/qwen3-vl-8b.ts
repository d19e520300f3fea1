import type { ModelFacts } from "./model-facts.ts";
import { qwen3Vision } from "./qwen-vision.ts";

/** Qwen3-VL-8B: Qwen3 decoder with DeepStack, interleaved M-RoPE and a 16-pixel patch tower. */
export const qwen3Vl8b: ModelFacts = {
  name: "qwen3-vl-8b",
  title: "Qwen3-VL-8B",
  family: "qwen3-vl",
  repository: "Qwen/Qwen3-VL-8B-Instruct",
  license: "Apache-2.0",
  contextWindow: 262_144,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "json-relative-1000",
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
    ...qwen3Vision({
      hiddenSize: 1152,
      layers: 27,
      heads: 16,
      intermediateSize: 4304,
      outputSize: 4096,
      patchSize: 16,
      mergeSize: 2,
      positionRows: 2304,
      deepstackMergers: 3,
    }),
  },
  provenance: {
    level: "agreeing-copies",
    note: "Copies of config.json agree; the parameter count with a rank-16 adapter equals a published training log to the last digit.",
  },
};
