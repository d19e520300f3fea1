import type { ModelFacts } from "./model-facts.ts";
import { qwen25PublishedTower, qwen25Vision } from "./qwen-vision.ts";

/** Qwen2.5-VL-3B: windowed vision tower, chunked M-RoPE, tied embeddings. */
export const qwen25Vl3b: ModelFacts = {
  name: "qwen2.5-vl-3b",
  title: "Qwen2.5-VL-3B",
  family: "qwen2.5-vl",
  repository: "Qwen/Qwen2.5-VL-3B-Instruct",
  license: "Qwen Research License (no commercial use)",
  contextWindow: 128_000,
  modes: ["lora", "full"],
  modeRefusal: null,
  boxConvention: "json-resized-pixels",
  architecture: {
    text: {
      hiddenSize: 2048,
      layers: 36,
      heads: 16,
      keyValueHeads: 2,
      headSize: 128,
      intermediateSize: 11_008,
      vocabularySize: 151_936,
      tiedEmbeddings: true,
      queryKeyValueBias: true,
      queryKeyNorm: false,
      outputGate: false,
      linearAttention: null,
    },
    ...qwen25Vision({ ...qwen25PublishedTower, outputSize: 2048 }),
  },
  provenance: { level: "agreeing-copies", note: "Several copies of the published config.json agree." },
};
