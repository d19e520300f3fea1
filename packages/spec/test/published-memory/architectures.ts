import type { Architecture, TextDecoder, VisionTower } from "../../src/catalogue/architecture.ts";
import { findModel } from "../../src/catalogue/catalogue.ts";
import { qwen25PublishedTower, qwen25Vision, qwen3Vision } from "../../src/catalogue/qwen-vision.ts";

/** Architectures of the models in the published tables. Those outside the catalogue were checked by their parameter count. */

type Sizes = Pick<
  TextDecoder,
  "hiddenSize" | "layers" | "heads" | "keyValueHeads" | "intermediateSize" | "vocabularySize"
> &
  Partial<TextDecoder>;

function decoder(sizes: Sizes): TextDecoder {
  return {
    headSize: 128,
    tiedEmbeddings: false,
    queryKeyValueBias: true,
    queryKeyNorm: false,
    outputGate: false,
    linearAttention: null,
    ...sizes,
  };
}

function textOnly(sizes: Sizes): Architecture {
  return { text: decoder(sizes), vision: null, bridge: null, visualTokens: null };
}

/** A plain transformer tower with 1,024 patches a picture. */
function plainTower(
  sizes: Pick<VisionTower, "hiddenSize" | "layers" | "heads" | "intermediateSize" | "gatedMlp">,
): VisionTower {
  return {
    norm: "layer",
    patchValues: 588,
    patchBias: true,
    positionRows: 1024,
    classToken: false,
    layerScale: false,
    finalNorm: true,
    patchesPerToken: 4,
    ...sizes,
  };
}

function catalogued(name: string): Architecture {
  const model = findModel(name);
  if (model === undefined) throw new Error(`${name} is not in the catalogue`);
  return model.architecture;
}

const qwen7b: Sizes = {
  hiddenSize: 4096,
  layers: 32,
  heads: 32,
  keyValueHeads: 32,
  intermediateSize: 11_008,
  vocabularySize: 151_936,
};
const qwen25_7b: Sizes = {
  hiddenSize: 3584,
  layers: 28,
  heads: 28,
  keyValueHeads: 4,
  intermediateSize: 18_944,
  vocabularySize: 152_064,
};
const delta = {
  fullAttentionInterval: 4,
  keyHeads: 16,
  keyHeadSize: 128,
  valueHeads: 16,
  valueHeadSize: 128,
  convolutionKernel: 4,
};
const qwen35: Partial<TextDecoder> = {
  headSize: 256,
  tiedEmbeddings: true,
  queryKeyValueBias: false,
  queryKeyNorm: true,
  outputGate: true,
  linearAttention: delta,
};
const internVit = plainTower({ hiddenSize: 1024, layers: 24, heads: 16, intermediateSize: 4096, gatedMlp: false });
const pixtralTower = plainTower({ hiddenSize: 1024, layers: 24, heads: 16, intermediateSize: 4096, gatedMlp: true });

export const architectures = {
  "Qwen-1.8B": textOnly({
    hiddenSize: 2048,
    layers: 24,
    heads: 16,
    keyValueHeads: 16,
    intermediateSize: 5504,
    vocabularySize: 151_936,
  }),
  "Qwen-7B": textOnly(qwen7b),
  "Qwen-14B": textOnly({
    hiddenSize: 5120,
    layers: 40,
    heads: 40,
    keyValueHeads: 40,
    intermediateSize: 13_696,
    vocabularySize: 152_064,
  }),
  "Qwen-72B": textOnly({
    hiddenSize: 8192,
    layers: 80,
    heads: 64,
    keyValueHeads: 64,
    intermediateSize: 24_576,
    vocabularySize: 152_064,
  }),
  "Qwen-VL": {
    text: decoder(qwen7b),
    vision: plainTower({ hiddenSize: 1664, layers: 48, heads: 16, intermediateSize: 8192, gatedMlp: false }),
    bridge: {
      blocks: [
        {
          normParameters: 0,
          linears: [
            [1664, 4096],
            [4096, 12_288],
            [4096, 4096],
          ],
        },
      ],
    },
    visualTokens: null,
  },
  "Qwen2.5-7B": textOnly(qwen25_7b),
  "Qwen2.5-14B": textOnly({
    hiddenSize: 5120,
    layers: 48,
    heads: 40,
    keyValueHeads: 8,
    intermediateSize: 13_824,
    vocabularySize: 152_064,
  }),
  "Qwen2-VL-7B": catalogued("qwen2.5-vl-7b"),
  "Qwen2.5-VL-7B": catalogued("qwen2.5-vl-7b"),
  "Qwen2.5-VL-72B": {
    text: decoder({
      hiddenSize: 8192,
      layers: 80,
      heads: 64,
      keyValueHeads: 8,
      intermediateSize: 29_568,
      vocabularySize: 152_064,
    }),
    ...qwen25Vision({ ...qwen25PublishedTower, intermediateSize: 3456, outputSize: 8192 }),
  },
  "Qwen3-VL-4B": catalogued("qwen3-vl-4b"),
  "Qwen3-VL-8B": catalogued("qwen3-vl-8b"),
  "Qwen3.5-0.8B": {
    text: decoder({
      hiddenSize: 1024,
      layers: 24,
      heads: 8,
      keyValueHeads: 2,
      intermediateSize: 3584,
      vocabularySize: 248_320,
      ...qwen35,
    }),
    ...qwen3Vision({
      hiddenSize: 768,
      layers: 12,
      heads: 12,
      intermediateSize: 3072,
      outputSize: 1024,
      patchSize: 16,
      mergeSize: 2,
      positionRows: 2304,
      deepstackMergers: 0,
    }),
  },
  "Qwen3.5-2B": {
    text: decoder({
      hiddenSize: 2048,
      layers: 24,
      heads: 8,
      keyValueHeads: 2,
      intermediateSize: 6144,
      vocabularySize: 248_320,
      ...qwen35,
    }),
    ...qwen3Vision({
      hiddenSize: 1024,
      layers: 24,
      heads: 16,
      intermediateSize: 4096,
      outputSize: 2048,
      patchSize: 16,
      mergeSize: 2,
      positionRows: 2304,
      deepstackMergers: 0,
    }),
  },
  "Qwen3.5-4B": catalogued("qwen3.5-4b"),
  "Qwen3.5-9B": catalogued("qwen3.5-9b"),
  "Qwen3.5-27B": catalogued("qwen3.5-27b"),
  "InternVL3-8B": {
    text: decoder(qwen25_7b),
    vision: internVit,
    bridge: {
      blocks: [
        {
          normParameters: 8192,
          linears: [
            [4096, 3584],
            [3584, 3584],
          ],
        },
      ],
    },
    visualTokens: null,
  },
  "InternVL3.5-8B": catalogued("internvl3.5-8b"),
  "Llama-3.2-1B": textOnly({
    hiddenSize: 2048,
    layers: 16,
    heads: 32,
    keyValueHeads: 8,
    headSize: 64,
    intermediateSize: 8192,
    vocabularySize: 128_256,
    tiedEmbeddings: true,
    queryKeyValueBias: false,
  }),
  "Llama-3.2-11B-Vision": {
    text: decoder({
      hiddenSize: 4096,
      layers: 40,
      heads: 32,
      keyValueHeads: 8,
      intermediateSize: 14_336,
      vocabularySize: 128_256,
      queryKeyValueBias: false,
    }),
    vision: plainTower({ hiddenSize: 1280, layers: 40, heads: 16, intermediateSize: 5120, gatedMlp: false }),
    bridge: { blocks: [{ normParameters: 0, linears: [[7680, 4096]] }] },
    visualTokens: null,
  },
  "Pixtral-12B": {
    text: decoder({
      hiddenSize: 5120,
      layers: 40,
      heads: 32,
      keyValueHeads: 8,
      intermediateSize: 14_336,
      vocabularySize: 131_072,
      queryKeyValueBias: false,
    }),
    vision: pixtralTower,
    bridge: {
      blocks: [
        {
          normParameters: 0,
          linears: [
            [1024, 5120],
            [5120, 5120],
          ],
        },
      ],
    },
    visualTokens: null,
  },
  "Magistral-24B": {
    text: decoder({
      hiddenSize: 5120,
      layers: 40,
      heads: 32,
      keyValueHeads: 8,
      intermediateSize: 32_768,
      vocabularySize: 131_072,
      queryKeyValueBias: false,
    }),
    vision: pixtralTower,
    bridge: {
      blocks: [
        {
          normParameters: 0,
          linears: [
            [1024, 5120],
            [5120, 5120],
          ],
        },
      ],
    },
    visualTokens: null,
  },
  "nanoVLM-222M": {
    text: decoder({
      hiddenSize: 576,
      layers: 30,
      heads: 9,
      keyValueHeads: 3,
      headSize: 64,
      intermediateSize: 1536,
      vocabularySize: 49_152,
      tiedEmbeddings: true,
      queryKeyValueBias: false,
    }),
    vision: {
      ...plainTower({ hiddenSize: 768, layers: 12, heads: 12, intermediateSize: 3072, gatedMlp: false }),
      positionRows: 196,
    },
    bridge: { blocks: [{ normParameters: 0, linears: [[3072, 576]] }] },
    visualTokens: null,
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof architectures;
