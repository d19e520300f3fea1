import type { ModelFacts } from "./model-facts.ts";
import { qwen25PublishedTower, qwen25Vision } from "./qwen-vision.ts";

/** Qwen2.5-VL-7B: windowed vision tower, chunked M-RoPE. */
export const qwen25Vl7b: ModelFacts = {
  name: "qwen2.5-vl-7b",
  title: "Qwen2.5-VL-7B",
  family: "qwen2.5-vl",
  repository: "Qwen/Qwen2.5-VL-7B-Instruct",
  license: "Apache-2.0",
  contextWindow: 128_000,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "json-resized-pixels",
  architecture: {
    text: {
      hiddenSize: 3584,
      layers: 28,
      heads: 28,
      keyValueHeads: 4,
      headSize: 128,
      intermediateSize: 18_944,
      vocabularySize: 152_064,
      tiedEmbeddings: false,
      queryKeyValueBias: true,
      queryKeyNorm: false,
      outputGate: false,
      linearAttention: null,
    },
    ...qwen25Vision({ ...qwen25PublishedTower, outputSize: 3584 }),
  },
  provenance: { level: "agreeing-copies", note: "Several copies of the published config.json agree." },
};
