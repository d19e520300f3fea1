import type { ModelFacts } from "./model-facts.ts";
import { qwen25PublishedTower, qwen25Vision } from "./qwen-vision.ts";

/** Cosmos-Reason1-7B: Qwen2.5-VL-7B post-trained for physical reasoning. */
export const cosmosReason1_7b: ModelFacts = {
  name: "cosmos-reason1-7b",
  title: "Cosmos-Reason1-7B",
  family: "qwen2.5-vl",
  repository: "nvidia/Cosmos-Reason1-7B",
  license: "NVIDIA Open Model License",
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
  provenance: {
    level: "inferred",
    note: "Its repository says that the architecture is Qwen2.5-VL-7B; its own config.json was not compared.",
  },
};
