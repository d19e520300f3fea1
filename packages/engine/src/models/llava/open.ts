/*
 * LLaVA-1.5: CLIP's tower, two linear layers, and a decoder with plain rotary positions (Llama, Mistral or Qwen2). LLaVA-NeXT: the
 * same, with pictures in tiles.
 */
import { AnyResolutionImageProcessor } from "../../image/any-resolution-image-processor.ts";
import { ClipImageProcessor } from "../../image/clip-image-processor.ts";
import type { Model } from "../model.ts";
import { isBehindFeatures } from "../parts/feature-layer.ts";
import { fileNames } from "../parts/file-names.ts";
import { openTiledModel } from "../parts/tiled-model.ts";
import { anyResolutionPacking } from "./any-resolution.ts";
import { clipVision } from "./clip-tower.ts";
import { parseLlavaConfig } from "./config.ts";

/** `llava` and `llava_next`. @throws InvalidError (`bad_model_config`) naming the key */
export function openLlava(configFile: unknown): Model {
  const config = parseLlavaConfig(configFile);
  const { text, vision, imageTokenId, resolutions } = config;
  const tile = {
    side: vision.side,
    patchSize: vision.channels * vision.patchSize ** 2,
    tokens: vision.side ** 2 + (config.keepsClassToken ? 1 : 0),
    places: Array.from({ length: vision.side ** 2 }, (_, place) => place),
  };
  const square = { patchSize: vision.patchSize, side: vision.side, tokens: tile.tokens };
  return openTiledModel({
    type: resolutions ? "llava_next" : "llava",
    text,
    tile,
    imageTokenId,
    boxConvention: "undocumented",
    turns: "rendered",
    tower: (variables, inputs) => clipVision(variables, config, inputs),
    placeholders: ({ tokens }) => Array.from({ length: tokens }, () => imageTokenId),
    imageProcessor: (file, bounds) =>
      resolutions
        ? new AnyResolutionImageProcessor(file, { ...square, resolutions }, bounds)
        : new ClipImageProcessor(file, square),
    ...(resolutions ? { packing: anyResolutionPacking(vision.side, text.decoder.hiddenSize) } : {}),
    storedNames,
    isUnused: (name) =>
      isBehindFeatures(name, vision.featureLayer) || /\.(post_layernorm\.\w+|position_ids)$/.test(name),
  });
}

/** Files of before transformers 5 have a level `vision_model` between the tower and its parts. */
function storedNames(name: string): readonly string[] {
  const names = fileNames(name);
  return [...names, ...names.map((known) => known.replace(/vision_tower\./, "vision_tower.vision_model."))].filter(
    (known, index, all) => all.indexOf(known) === index,
  );
}
