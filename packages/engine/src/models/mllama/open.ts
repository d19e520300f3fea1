/*
 * Mllama (Llama 3.2 Vision): tiles with a tower of local and global layers, and a Llama decoder some of whose layers look at
 * the pictures.
 * Source: `modeling_mllama.py` of huggingface/transformers 5.23.
 */
import { GraphBuilder } from "../../graph/build.ts";
import { MllamaImageProcessor } from "../../image/mllama-image-processor.ts";
import type { ForwardGraph, ForwardOptions, Model, TurnMarks } from "../model.ts";
import { fileNames } from "../parts/file-names.ts";
import { logitsAt } from "../parts/text-decoder.ts";
import { countedPositions, rotaryFeeds, textFeeds, textInputs } from "../parts/text-inputs.ts";
import { Variables } from "../variables.ts";
import { parseMllamaConfig, type MllamaConfig } from "./config.ts";
import type { SeenPictures } from "./cross-attention.ts";
import { mllamaDecoder, mllamaSlots } from "./decoder.ts";
import { sightFeeds, sightSymbols, stepSightFeeds } from "./sight.ts";
import { visionFeeds, visionInputs } from "./vision-inputs.ts";
import { visionTower } from "./vision-tower.ts";

/** Turns as Llama 3 writes them. */
const llama3Turns: TurnMarks = { start: "<|start_header_id|>", answerHeader: "assistant\n\n", end: "<|eot_id|>" };

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openMllama(configFile: unknown): Model {
  const config = parseMllamaConfig(configFile);
  const { rotary, vision, imageTokenId } = config;
  return {
    type: "mllama",
    vocabularySize: config.text.vocabularySize,
    contextWindow: config.contextWindow,
    imageTokenId,
    boxConvention: "undocumented",
    loraRefusal: null,
    cache: mllamaSlots(config),
    stepSeesImages: true,
    turns: llama3Turns,
    refusesSystemBesidePictures: true,
    forward: (options) => forwardGraph(config, options),
    feeds: (batch) => ({
      ...textFeeds(rotary, batch),
      ...(batch.pictures.length > 0 ? { ...visionFeeds(vision, batch), ...sightFeeds(vision, batch) } : {}),
    }),
    symbols: (batch) => ({
      B: batch.batchSize,
      T: batch.sequenceLength,
      ...(batch.pictures.length > 0 ? { I: batch.pictures.length, ...sightSymbols(batch) } : {}),
    }),
    step: (batch, positions) => {
      const feeds = rotaryFeeds(rotary, positions, batch.batchSize, 1);
      if (batch.pictures.length === 0) return { feeds, symbols: {} };
      return { feeds: { ...feeds, ...stepSightFeeds(vision, batch) }, symbols: sightSymbols(batch) };
    },
    positions: ({ inputIds }) => countedPositions(inputIds.length),
    placeholders: () => [imageTokenId],
    imageProcessor: (file) => new MllamaImageProcessor(file, vision),
    storedNames: fileNames,
    isUnused: (name) => name.endsWith("rotary_emb.inv_freq"),
  };
}

function forwardGraph(config: MllamaConfig, options: ForwardOptions): ForwardGraph {
  const graph = new GraphBuilder();
  const variables = new Variables(graph, options);
  const { hasCache = false, hasImages } = options;
  const inputs = textInputs(graph, config.rotary, hasCache);
  const tower =
    hasImages && !hasCache ? visionTower(variables, config.vision, visionInputs(graph, config.vision)) : null;
  const seen: SeenPictures | null = tower && {
    features: variables.linear("model.multi_modal_projector", tower.features, {
      in: config.vision.hiddenSize * (1 + config.vision.intermediateLayers.length),
      out: config.text.hiddenSize,
      hasBias: true,
    }),
    slots: graph.input("picture-slots", ["I"], "int64"),
  };
  const pictures = hasCache && hasImages ? "cached" : seen;
  const output = mllamaDecoder(variables, config, inputs, pictures, hasCache);
  return {
    graph,
    variables,
    cache: output.cache,
    layers: output.layers,
    visionBlocks: tower?.blocks ?? [],
    logits: (rows) =>
      logitsAt(variables, config.text, output.hidden, rows === "all" ? null : graph.input("rows", ["L"], "int64")),
  };
}
