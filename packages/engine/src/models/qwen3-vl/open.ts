/*
 * Qwen3-VL (dense): image tower with DeepStack, Qwen3 decoder, interleaved M-RoPE.
 * Source: `modeling_qwen3_vl.py` of huggingface/transformers 5.23.
 */
import { GraphBuilder } from "../../graph/build.ts";
import { QwenImageProcessor } from "../../image/qwen-image-processor.ts";
import { keyValueInputs, keyValueSlots, namedCache } from "../parts/key-value-cache.ts";
import { gridPositions } from "../parts/grid-positions.ts";
import { logitsAt, textDecoder } from "../parts/text-decoder.ts";
import { interleavedAxes, rotaryFeeds, rotaryFrequencies, textFeeds, textInputs } from "../parts/text-inputs.ts";
import { chatMl, type ForwardGraph, type ForwardOptions, type Model } from "../model.ts";
import { Variables } from "../variables.ts";
import { parseQwen3VlConfig, type Qwen3VlConfig } from "./config.ts";
import { visionFeeds, visionInputs, visionSymbols } from "./vision-inputs.ts";
import { visionTower } from "./vision-tower.ts";

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openQwen3Vl(configFile: unknown): Model {
  const config = parseQwen3VlConfig(configFile);
  const rotary = {
    frequencies: rotaryFrequencies(config.ropeTheta, config.text.headSize / 2),
    axes: interleavedAxes(config.text.headSize / 2, config.mropeSection),
  };
  return {
    type: "qwen3_vl",
    vocabularySize: config.text.vocabularySize,
    contextWindow: config.contextWindow,
    imageTokenId: config.imageTokenId,
    boxConvention: "json-relative-1000",
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
    imageProcessor: (file, bounds) => new QwenImageProcessor(file, bounds),
    storedNames: (name) => [name],
    isUnused: () => false,
  };
}

function forwardGraph(
  config: Qwen3VlConfig,
  rotary: Parameters<typeof textInputs>[1],
  options: ForwardOptions,
): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { hasCache = false } = options;
  const inputs = textInputs(graph, rotary, hasCache);
  const past = hasCache ? keyValueInputs(graph, config.text) : null;
  const tower =
    options.hasImages && !hasCache ? visionTower(variables, config.vision, visionInputs(graph, config.vision)) : null;
  const image = tower && {
    ...tower,
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
