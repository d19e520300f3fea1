/*
 * PaliGemma: SigLIP's tower, one linear layer, and a Gemma decoder that reads prompts in both directions.
 * Source: `modeling_paligemma.py` of huggingface/transformers 5.23.
 */
import { ClipImageProcessor } from "../../image/clip-image-processor.ts";
import type { Model } from "../model.ts";
import { fileNames } from "../parts/file-names.ts";
import { siglipTower } from "../parts/siglip-tower.ts";
import { openTiledModel } from "../parts/tiled-model.ts";
import { paliGemmaTemplate } from "./chat-template.ts";
import { parsePaliGemmaConfig } from "./config.ts";
import { prefixReach } from "./prefix-reach.ts";

const tower = "model.vision_tower";

/** Places and outlines of things, as answers write them: text to whoever reads it, whatever a tokenizer calls it. */
const textTokens = [...numbered("loc", 1024, 4), ...numbered("seg", 128, 3)];

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openPaliGemma(configFile: unknown): Model {
  const { text, vision, imageTokenId } = parsePaliGemmaConfig(configFile);
  const tokens = vision.side ** 2;
  const tile = {
    side: vision.side,
    patchSize: vision.channels * vision.patchSize ** 2,
    tokens,
    places: Array.from({ length: tokens }, (_, place) => place),
  };
  return openTiledModel({
    type: "paligemma",
    text,
    tile,
    imageTokenId,
    boxConvention: "paligemma-loc",
    turns: "continued",
    spareChatTemplate: paliGemmaTemplate,
    textTokens,
    firstPosition: 1,
    reach: prefixReach,
    tower: (variables, { patches }) => {
      const { features, blocks } = siglipTower(variables, vision, tower, patches);
      const sizes = { in: vision.hiddenSize, out: text.decoder.hiddenSize, hasBias: true };
      return { features: variables.linear("model.multi_modal_projector.linear", features, sizes), blocks };
    },
    placeholders: (image) => Array.from({ length: image.tokens }, () => imageTokenId),
    imageProcessor: (file) => {
      const { patchSize, side, imageSize } = vision;
      return new ClipImageProcessor(file, { patchSize, side, tokens, imageSize, usual: "half" });
    },
    storedNames,
    isUnused,
  });
}

function numbered(name: string, count: number, digits: number): string[] {
  return Array.from({ length: count }, (_, index) => `<${name}${String(index).padStart(digits, "0")}>`);
}

/** Files of before transformers 5 have a level `vision_model` between the tower and its parts. */
function storedNames(name: string): readonly string[] {
  const names = fileNames(name);
  return [...names, ...names.map((known) => known.replace(/vision_tower\./, "vision_tower.vision_model."))].filter(
    (known, index, all) => all.indexOf(known) === index,
  );
}

/** The tower's pooling head and tables of numbers that older files hold, and the head that is tied to the embedding. */
function isUnused(name: string): boolean {
  return (
    /(?:^|\.)vision_tower\.(?:vision_model\.)?(?:head\.|embeddings\.position_ids$)/.test(name) ||
    name.endsWith("rotary_emb.inv_freq") ||
    name.endsWith("lm_head.weight")
  );
}
