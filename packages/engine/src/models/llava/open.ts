/*
 * LLaVA-1.5: CLIP's tower, two linear layers, and a decoder with plain rotary positions (Llama, Mistral or Qwen2).
 */
import { ClipImageProcessor } from "../../image/clip-image-processor.ts";
import type { Model } from "../model.ts";
import { isBehindFeatures } from "../parts/feature-layer.ts";
import { fileNames } from "../parts/file-names.ts";
import { openTiledModel } from "../parts/tiled-model.ts";
import { clipVision } from "./clip-tower.ts";
import { parseLlavaConfig } from "./config.ts";

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openLlava(configFile: unknown): Model {
  const config = parseLlavaConfig(configFile);
  const { text, vision, imageTokenId } = config;
  const tile = {
    side: vision.side,
    patchSize: vision.channels * vision.patchSize ** 2,
    tokens: vision.side ** 2 + (config.keepsClassToken ? 1 : 0),
    places: Array.from({ length: vision.side ** 2 }, (_, place) => place),
  };
  return openTiledModel({
    type: "llava",
    text,
    tile,
    imageTokenId,
    boxConvention: "undocumented",
    turns: "rendered",
    tower: (variables, inputs) => clipVision(variables, config, inputs),
    placeholders: ({ tokens }) => Array.from({ length: tokens }, () => imageTokenId),
    imageProcessor: (file) =>
      new ClipImageProcessor(file, { patchSize: vision.patchSize, side: vision.side, tokens: tile.tokens }),
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
