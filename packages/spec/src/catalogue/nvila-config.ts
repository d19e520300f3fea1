import type { ConfigReader } from "./config-reader.ts";
import { readContextWindow, readDecoder, type Reading } from "./decoder-config.ts";
import { nvilaLoraRefusal } from "./nvila-lite-2b.ts";

/** Patches a side of the square that becomes one visual token. */
const cellSide = 3;

/** Where the layout with a sub-folder a part and the flat one say the same. */
interface NvilaLayout {
  readonly text: string;
  readonly vision: string;
}

export const nvilaParts: NvilaLayout = { text: "llm_cfg", vision: "vision_tower_cfg" };
export const nvilaFlat: NvilaLayout = { text: "text_config", vision: "vision_config" };

/** NVILA-Lite in both layouts: SigLIP's tower, whose last block is stored and not run, and a bridge from nine patches to a token. */
export function readNvila(config: ConfigReader, layout: NvilaLayout): Reading {
  const vision = config.nested(layout.vision);
  const hidden = vision.number("hidden_size");
  const side = vision.number("image_size");
  const patch = vision.number("patch_size");
  const patchesPerSide = side / patch;
  const own = config.nested(layout.text);
  const text = {
    ...readDecoder(own, { queryKeyValueBias: true, queryKeyNorm: false, isHybrid: false }),
    tiedEmbeddings: own.optionalBoolean("tie_word_embeddings") ?? false,
  };
  const joined = cellSide ** 2 * hidden;
  const middle = cellSide * hidden;
  return {
    family: "nvila-lite",
    boxConvention: "undocumented",
    contextWindow: readContextWindow(own),
    loraRefusal: nvilaLoraRefusal,
    architecture: {
      text,
      vision: {
        hiddenSize: hidden,
        layers: vision.number("num_hidden_layers"),
        heads: vision.number("num_attention_heads"),
        intermediateSize: vision.number("intermediate_size"),
        gatedMlp: false,
        norm: "layer",
        patchValues: 3 * patch ** 2,
        patchBias: true,
        positionRows: patchesPerSide ** 2,
        classToken: false,
        layerScale: false,
        finalNorm: true,
        patchesPerToken: cellSide ** 2,
      },
      bridge: {
        blocks: [
          {
            normParameters: 2 * joined + 2 * middle,
            linears: [
              [joined, middle],
              [middle, text.hiddenSize],
              [text.hiddenSize, text.hiddenSize],
            ],
          },
        ],
      },
      visualTokens: {
        kind: "tiles",
        tileSize: side,
        patchSize: patch,
        tokensPerTile: Math.ceil(patchesPerSide / cellSide) ** 2,
        extraTokensPerTile: 2,
        minTiles: config.optionalNumber("min_tiles") ?? 1,
        maxTiles: config.optionalNumber("max_tiles") ?? 12,
        delimiterTokens: 0,
      },
    },
  };
}
