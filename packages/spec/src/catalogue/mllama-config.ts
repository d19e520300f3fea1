import type { VisionTower } from "./architecture.ts";
import type { ConfigReader } from "./config-reader.ts";
import { readContextWindow, readDecoder, type Reading } from "./decoder-config.ts";
import { withTextDefaults } from "./text-defaults.ts";

/** Rows of the embedding that `MllamaTextModel` has beyond the vocabulary. */
const furtherEmbeddings = 8;
/** Tiles are filled up to a multiple of so many rows. */
const rowMultiple = 8;

/** The class's own values stand for what published files leave out. Source: `MllamaVisionConfig` of huggingface/transformers 5.23. */
export function readMllama(config: ConfigReader): Reading {
  const vision = config.nested("vision_config");
  const own = config.nestedWith("text_config", (section) => withTextDefaults(section, "mllama_text_model"));
  const decoder = readDecoder(own, { queryKeyValueBias: false, queryKeyNorm: false, isHybrid: false });
  const text = {
    ...decoder,
    tiedEmbeddings: false,
    crossAttentionLayers: own.list("cross_attention_layers").length,
    furtherEmbeddings,
  };
  const patch = vision.optionalNumber("patch_size") ?? 14;
  const rows = 1 + ((vision.optionalNumber("image_size") ?? 448) / patch) ** 2;
  const tiles = vision.optionalNumber("max_num_tiles") ?? 4;
  const tower = towerOf(vision, { patch, rows, tiles });
  return {
    family: "mllama",
    boxConvention: "undocumented",
    contextWindow: readContextWindow(own),
    architecture: {
      text,
      vision: tower,
      bridge: {
        blocks: [
          {
            normParameters: 0,
            linears: [[vision.optionalNumber("vision_output_dim") ?? 7680, text.hiddenSize]],
          },
        ],
      },
      visualTokens: {
        kind: "cross-attention",
        rowsOfPicture: tiles * Math.ceil(rows / rowMultiple) * rowMultiple,
      },
    },
  };
}

/** @param sizes  pixels of a patch's side, rows of a tile with its class token, tiles of a picture */
function towerOf(vision: ConfigReader, sizes: { patch: number; rows: number; tiles: number }): VisionTower {
  const { patch, rows, tiles } = sizes;
  const hidden = vision.optionalNumber("hidden_size") ?? 1280;
  const globalLayers = vision.optionalNumber("num_global_layers") ?? 8;
  const tilings = vision.optionalList("supported_aspect_ratios")?.length ?? tilingsOf(tiles);
  return {
    hiddenSize: hidden,
    layers: (vision.optionalNumber("num_hidden_layers") ?? 32) + globalLayers,
    heads: vision.optionalNumber("attention_heads") ?? vision.optionalNumber("num_attention_heads") ?? 16,
    intermediateSize: vision.optionalNumber("intermediate_size") ?? 5120,
    gatedMlp: false,
    norm: "layer",
    patchValues: (vision.optionalNumber("num_channels") ?? 3) * patch ** 2,
    patchBias: false,
    positionRows: rows,
    classToken: true,
    layerScale: false,
    finalNorm: true,
    firstNorm: true,
    queryKeyValueBias: false,
    outputBias: false,
    // Positions of tiles and embeddings before and after the local layers, for every layout and for none; their three gates.
    otherParameters: (1 + tilings) * tiles * hidden * (rows + 2) + 3 + 2 * globalLayers,
    patchesPerToken: 1,
  };
}

/** Ways to lay out at most `tiles` tiles. */
function tilingsOf(tiles: number): number {
  let count = 0;
  for (let columns = 1; columns <= tiles; columns++) count += Math.floor(tiles / columns);
  return count;
}
