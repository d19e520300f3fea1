/*
 * Models whose image tower sees square tiles of one size, each by itself, and whose decoder counts its tokens along one axis:
 * InternVL, LLaVA and PaliGemma. Every tile gives the same number of visual tokens, so nothing is padded.
 *
 * Symbols: B rows, T tokens, K tiles in all.
 */
import { InvalidError } from "@drydock/kit";
import type { ModelBatch } from "../../batch/model-batch.ts";
import { GraphBuilder } from "../../graph/build.ts";
import type { Node } from "../../graph/ops.ts";
import { product } from "../../graph/shape.ts";
import type { Feeds, Symbols } from "../../runtime/feeds.ts";
import type { ForwardGraph, ForwardOptions, Model } from "../model.ts";
import { Variables } from "../variables.ts";
import { keyValueInputs, keyValueSlots, namedCache } from "./key-value-cache.ts";
import type { PlainText } from "./plain-text-config.ts";
import { logitsAt, textDecoder } from "./text-decoder.ts";
import {
  causalReach,
  countedPositions,
  rotaryFeeds,
  slidingFloor,
  stepWindowFeeds,
  textFeeds,
  textInputs,
} from "./text-inputs.ts";

/** Graph inputs of a tower. */
export interface TileInputs {
  /** `[patches·K, channels·patch²]`. */
  readonly patches: Node;
  /** `[patches·K]` int64: row of each patch among those of its tile and of the tiles before, class tokens counted. */
  readonly patchRows: Node;
}

/** What a tower and its bridge give. */
export interface TileFeatures {
  /** `[tokens·K, D]` in place of the pictures' tokens. */
  readonly features: Node;
  /** Rows of the tower after each block: where the graph may be cut. */
  readonly blocks: readonly Node[];
}

export interface TiledModel extends Pick<
  Model,
  | "type"
  | "imageTokenId"
  | "boxConvention"
  | "turns"
  | "spareChatTemplate"
  | "textTokens"
  | "placeholders"
  | "imageProcessor"
  | "storedNames"
  | "isUnused"
> {
  readonly text: PlainText;
  readonly tile: {
    /** Patches a side. */
    readonly side: number;
    /** Values of a patch. */
    readonly patchSize: number;
    readonly tokens: number;
    /** Place of each patch, as batches hold them, in the tile's rows from top left. */
    readonly places: readonly number[];
  };
  readonly tower: (variables: Variables, inputs: TileInputs) => TileFeatures;
  /** Position of a row's first token; 0 unless given. */
  readonly firstPosition?: number;
  /** `[B, T]`: up to which key of its row each query sees; itself unless given. */
  readonly reach?: (batch: ModelBatch) => Float32Array;
  /** For families that put features of tiles together in another way than one behind the other. */
  readonly packing?: TilePacking;
}

/** How features of tiles become those of pictures. Symbol: N visual tokens in all. */
export interface TilePacking {
  /** `[tokens·K, D]` to `[N, D]`, with inputs of its own. */
  packed(variables: Variables, features: Node): Node;
  /** @throws InvalidError when a picture's visual tokens are not those that its tiles give */
  feeds(batch: ModelBatch): Feeds;
  symbols(batch: ModelBatch): Symbols;
}

export function openTiledModel(parts: TiledModel): Model {
  const { text, tile, tower: _tower, firstPosition = 0, reach = causalReach, packing, ...rest } = parts;
  return {
    ...rest,
    vocabularySize: text.decoder.vocabularySize,
    contextWindow: text.contextWindow,
    loraRefusal: null,
    cache: keyValueSlots(text.decoder),
    stepSeesImages: false,
    forward: (options) => forwardGraph(parts, options),
    feeds: (batch) => ({
      ...textFeeds(text.rotary, withinVocabulary(parts, batch), reach(batch)),
      ...(text.decoder.sliding ? floorFeeds(batch, reach(batch), text.decoder.sliding.window) : {}),
      ...(batch.pictures.length > 0 ? { ...tileFeeds(tile, batch, packing), ...packing?.feeds(batch) } : {}),
    }),
    symbols: (batch) => ({
      B: batch.batchSize,
      T: batch.sequenceLength,
      ...(batch.pictures.length > 0 ? { K: tilesOf(batch), ...packing?.symbols(batch) } : {}),
    }),
    step: (batch, positions, span) => {
      const feeds = rotaryFeeds(text.rotary, positions, batch.batchSize, 1);
      if (!text.decoder.sliding) return { feeds, symbols: {} };
      const places = Array.from(positions.subarray(0, batch.batchSize), (position) => position - firstPosition);
      return {
        feeds: { ...feeds, ...stepWindowFeeds(batch, places, span, text.decoder.sliding.window) },
        symbols: {},
      };
    },
    positions: ({ inputIds }) => countedPositions(inputIds.length, firstPosition),
  };
}

function floorFeeds(batch: ModelBatch, reach: Float32Array, window: number): Feeds {
  return {
    floor: { data: slidingFloor(batch, reach, window), shape: [batch.batchSize, batch.sequenceLength] },
  };
}

/** Features of pictures take the place of their tokens, so a token that has no embedding may be any other. */
function withinVocabulary({ text, imageTokenId }: TiledModel, batch: ModelBatch): ModelBatch {
  if (imageTokenId < text.decoder.vocabularySize) return batch;
  return { ...batch, inputIds: batch.inputIds.map((id) => (id === BigInt(imageTokenId) ? 0n : id)) };
}

function forwardGraph({ text, tile, tower, packing }: TiledModel, options: ForwardOptions): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { hasCache = false } = options;
  const inputs = textInputs(graph, text.rotary, hasCache, text.decoder.sliding !== undefined);
  const past = hasCache ? keyValueInputs(graph, text.decoder) : null;
  const count = product(["K", tile.side ** 2]);
  const seen =
    options.hasImages && !hasCache
      ? tower(variables, {
          patches: graph.input("patches", [count, tile.patchSize]),
          patchRows: graph.input("patch-rows", [count], "int64"),
        })
      : null;
  const image = seen && {
    features: packing ? packing.packed(variables, seen.features) : seen.features,
    deepstack: [],
    featureRows: null,
    imageRows: graph.input("image-rows", [packing ? "N" : product(["K", tile.tokens])], "int64"),
  };
  const output = textDecoder(variables, text.decoder, inputs, image, past);
  return {
    graph,
    variables,
    cache: namedCache(output.cache),
    layers: output.layers,
    visionBlocks: seen?.blocks ?? [],
    logits: (rows) =>
      logitsAt(variables, text.decoder, output.hidden, rows === "all" ? null : graph.input("rows", ["L"], "int64")),
  };
}

/**
 * Feeds of the image part: `patches`, `patch-rows`, `image-rows`.
 * @throws InvalidError when a picture's patches or visual tokens are not those of its tiles
 */
function tileFeeds(tile: TiledModel["tile"], batch: ModelBatch, packing: TilePacking | undefined): Feeds {
  const { side, patchSize, tokens, places } = tile;
  for (const { grid } of batch.pictures)
    if (grid.height !== side || grid.width !== side)
      throw new InvalidError(
        "image_size_mismatch",
        `a picture is cut into tiles of ${grid.width} by ${grid.height} patches, but the model's tower takes ${side} by ${side}; use the preprocessor_config.json that came with the model`,
      );
  const tiles = tilesOf(batch);
  if (!packing && batch.imageRows.length !== tiles * tokens) throw tokensMismatch(batch, tiles * tokens);
  const patches = tiles * side ** 2;
  if (batch.pixelPatches.length !== patches * patchSize)
    throw new InvalidError(
      "image_size_mismatch",
      `the batch holds ${batch.pixelPatches.length} pixel values, but ${patches} patches of the model take ${patches * patchSize}`,
    );
  const patchRows = new BigInt64Array(patches);
  for (let at = 0; at < patches; at++) {
    const own = Math.floor(at / side ** 2);
    patchRows[at] = BigInt(own * (1 + side ** 2) + 1 + (places[at % side ** 2] as number));
  }
  return {
    patches: { data: batch.pixelPatches, shape: [patches, patchSize] },
    "patch-rows": { data: patchRows, shape: [patches] },
    "image-rows": { data: BigInt64Array.from(batch.imageRows, BigInt), shape: [batch.imageRows.length] },
  };
}

/** @param given  visual tokens that the batch's pictures give */
export function tokensMismatch({ imageRows }: ModelBatch, given: number): InvalidError {
  return new InvalidError(
    "image_tokens_mismatch",
    `the batch has ${imageRows.length} image tokens but its pictures give ${given}`,
  );
}

function tilesOf({ pictures }: ModelBatch): number {
  return pictures.reduce((sum, { grid }) => sum + grid.time, 0);
}
