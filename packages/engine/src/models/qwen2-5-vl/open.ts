/*
 * Qwen2.5-VL, and Cosmos-Reason1, which has its architecture: windowed image tower, Qwen2 decoder, M-RoPE in sections.
 * Source: `modeling_qwen2_5_vl.py` of huggingface/transformers 5.23.
 */
import { GraphBuilder } from "../../graph/build.ts";
import { QwenImageProcessor } from "../../image/qwen-image-processor.ts";
import { gridPositions } from "../parts/grid-positions.ts";
import { keyValueInputs, keyValueSlots, namedCache } from "../parts/key-value-cache.ts";
import { logitsAt, textDecoder } from "../parts/text-decoder.ts";
import {
  rotaryFeeds,
  rotaryFrequencies,
  sectionAxes,
  textFeeds,
  textInputs,
  type RotaryConfig,
} from "../parts/text-inputs.ts";
import { chatMl, type ForwardGraph, type ForwardOptions, type Model } from "../model.ts";
import { Variables } from "../variables.ts";
import { parseQwen25VlConfig, type Qwen25VlConfig } from "./config.ts";
import { visionFeeds, visionInputs, visionSymbols } from "./vision-inputs.ts";
import { visionTower } from "./vision-tower.ts";

/** What the processor's file may leave out: the values of `Qwen2VLImageProcessor`. */
const imageDefaults = {
  patch_size: 14,
  merge_size: 2,
  min_pixels: 56 * 56,
  max_pixels: 28 * 28 * 1280,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
};

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openQwen25Vl(configFile: unknown): Model {
  const config = parseQwen25VlConfig(configFile);
  const half = config.text.headSize / 2;
  const rotary = { frequencies: rotaryFrequencies(config.ropeTheta, half), axes: sectionAxes(config.mropeSection) };
  return {
    type: "qwen2_5_vl",
    vocabularySize: config.text.vocabularySize,
    contextWindow: config.contextWindow,
    imageTokenId: config.imageTokenId,
    boxConvention: "json-resized-pixels",
    loraRefusal: null,
    cache: keyValueSlots(config.text),
    stepSeesImages: false,
    turns: chatMl,
    forward: (options) => forwardGraph(config, rotary, options),
    feeds: (batch) => ({
      ...textFeeds(rotary, batch),
      ...(batch.pictures.length > 0 ? visionFeeds(config.vision, batch) : {}),
    }),
    symbols: (batch) => ({
      B: batch.batchSize,
      T: batch.sequenceLength,
      ...(batch.pictures.length > 0 ? visionSymbols(config.vision, batch) : {}),
    }),
    step: ({ batchSize }, positions) => ({ feeds: rotaryFeeds(rotary, positions, batchSize, 1), symbols: {} }),
    positions: (row) => gridPositions(row, config.vision.mergeSize),
    placeholders: ({ tokens }) => Array.from({ length: tokens }, () => config.imageTokenId),
    imageProcessor: (file, bounds) =>
      new QwenImageProcessor(typeof file === "object" && file !== null ? { ...imageDefaults, ...file } : file, bounds),
    storedNames: (name) => [publishedName(name), name],
    isUnused: () => false,
  };
}

/** The names of published files, which `transformers` writes too: those from before it had one model for all parts. */
function publishedName(name: string): string {
  return name.replace(/^model\.language_model\./, "model.").replace(/^model\.visual\./, "visual.");
}

function forwardGraph(config: Qwen25VlConfig, rotary: RotaryConfig, options: ForwardOptions): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { hasCache = false } = options;
  const inputs = textInputs(graph, rotary, hasCache);
  const past = hasCache ? keyValueInputs(graph, config.text) : null;
  const tower =
    options.hasImages && !hasCache ? visionTower(variables, config.vision, visionInputs(graph, config.vision)) : null;
  const image = tower && {
    features: tower.features,
    deepstack: [],
    featureRows: graph.input("feature-rows", ["N"], "int64"),
    imageRows: graph.input("image-rows", ["N"], "int64"),
  };
  const output = textDecoder(variables, config.text, inputs, image, past);
  return {
    graph,
    variables,
    cache: namedCache(output.cache),
    layers: output.layers,
    visionBlocks: tower?.blocks ?? [],
    logits: (rows) =>
      logitsAt(variables, config.text, output.hidden, rows === "all" ? null : graph.input("rows", ["L"], "int64")),
  };
}
