/*
 * Qwen3.5: the image tower of Qwen3-VL without DeepStack, and a decoder of gated DeltaNet and gated attention.
 * Source: `modeling_qwen3_5.py` of huggingface/transformers 5.23.
 */
import { GraphBuilder } from "../../graph/build.ts";
import { QwenImageProcessor } from "../../image/qwen-image-processor.ts";
import { gridPositions } from "../parts/grid-positions.ts";
import { logitsAt, type TextInputs } from "../parts/text-decoder.ts";
import {
  interleavedAxes,
  rotaryFeeds,
  rotaryFrequencies,
  textFeeds,
  textInputs,
  type RotaryConfig,
} from "../parts/text-inputs.ts";
import { chatMl, type ForwardGraph, type ForwardOptions, type Model } from "../model.ts";
import { visionFeeds, visionInputs, visionSymbols } from "../qwen3-vl/vision-inputs.ts";
import { visionTower } from "../qwen3-vl/vision-tower.ts";
import { Variables } from "../variables.ts";
import { parseQwen35Config, type Qwen35Config } from "./config.ts";
import { hybridDecoder, hybridPast, hybridSlots } from "./decoder.ts";
import { deltaFeeds, deltaInputs, deltaSymbols } from "./delta-inputs.ts";

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openQwen35(configFile: unknown): Model {
  const config = parseQwen35Config(configFile);
  const { text, vision } = config;
  const half = text.rotarySize / 2;
  const rotary = {
    frequencies: rotaryFrequencies(config.ropeTheta, half),
    axes: interleavedAxes(half, config.mropeSection),
  };
  return {
    type: "qwen3_5",
    vocabularySize: text.vocabularySize,
    contextWindow: config.contextWindow,
    imageTokenId: config.imageTokenId,
    boxConvention: "json-relative-1000",
    loraRefusal: null,
    cache: hybridSlots(text),
    stepSeesImages: false,
    turns: chatMl,
    forward: (options) => forwardGraph(config, rotary, options),
    feeds: (batch) => ({
      ...textFeeds(rotary, batch),
      ...deltaFeeds(batch, text.delta.kernel),
      ...(batch.pictures.length > 0 ? visionFeeds(vision, batch) : {}),
    }),
    symbols: (batch) => ({
      B: batch.batchSize,
      T: batch.sequenceLength,
      ...deltaSymbols(batch),
      ...(batch.pictures.length > 0 ? visionSymbols(vision, batch) : {}),
    }),
    step: ({ batchSize }, positions) => ({ feeds: rotaryFeeds(rotary, positions, batchSize, 1), symbols: {} }),
    positions: (row) => gridPositions(row, vision.mergeSize),
    placeholders: ({ tokens }) => Array.from({ length: tokens }, () => config.imageTokenId),
    imageProcessor: (file, bounds) => new QwenImageProcessor(file, bounds),
    storedNames: (name) => [name],
    // Layers that guess several tokens ahead: published with the model, not part of it.
    isUnused: (name) => name.startsWith("mtp."),
  };
}

function forwardGraph(config: Qwen35Config, rotary: RotaryConfig, options: ForwardOptions): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { hasCache = false } = options;
  const inputs = hasCache
    ? { ...stepInputs(graph, rotary), delta: null }
    : { ...textInputs(graph, rotary, false), delta: deltaInputs(graph, config.text.delta.kernel) };
  const past = hasCache ? hybridPast(graph, config.text) : null;
  const tower =
    options.hasImages && !hasCache ? visionTower(variables, config.vision, visionInputs(graph, config.vision)) : null;
  const image = tower && {
    ...tower,
    featureRows: graph.input("feature-rows", ["N"], "int64"),
    imageRows: graph.input("image-rows", ["N"], "int64"),
  };
  const output = hybridDecoder(variables, config.text, inputs, image, past);
  const head = { ...config.text, normsArePlusOne: true };
  return {
    graph,
    variables,
    cache: output.cache,
    layers: output.layers,
    visionBlocks: tower?.blocks ?? [],
    logits: (rows) =>
      logitsAt(variables, head, output.hidden, rows === "all" ? null : graph.input("rows", ["L"], "int64")),
  };
}

/** Inputs of one token a row: a state takes no more than that at a time. */
function stepInputs(graph: GraphBuilder, { frequencies }: RotaryConfig): TextInputs {
  return {
    inputIds: graph.input("ids", ["B"], "int64"),
    cos: graph.input("cos", ["B", 1, frequencies.length]),
    sin: graph.input("sin", ["B", 1, frequencies.length]),
    mask: graph.input("mask", ["B", 1, 1, "W"]),
  };
}
