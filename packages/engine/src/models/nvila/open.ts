/*
 * NVILA-Lite: SigLIP's tower without its last block, a bridge from nine patches to a token, and a Qwen2 decoder. Published with a
 * sub-folder a part (`llava_llama`, `vila`) and as one folder (`nvila_lite`); the weights have the same names in both, those of a
 * sub-folder behind the sub-folder's own.
 *
 * transformers has no class for it: the names in memory are those that one would have.
 */
import { nvilaLoraRefusal } from "@drydock/spec";
import { TileImageProcessor, type TileSettings } from "../../image/tile-image-processor.ts";
import type { ImageProcessor, PixelBounds, ProcessedImage } from "../../image/image-processor.ts";
import type { TextTokenizer } from "../../text/tokenizer.ts";
import { chatMl, type FolderFacts, type Model } from "../model.ts";
import { badConfig } from "../parts/config-file.ts";
import { isBehindFeatures } from "../parts/feature-layer.ts";
import { renamed } from "../parts/file-names.ts";
import { siglipBlocks } from "../parts/siglip-tower.ts";
import { openTiledModel } from "../parts/tiled-model.ts";
import { cellsPerSide, nvilaBridge } from "./bridge.ts";
import { nvilaTemplate } from "./chat-template.ts";
import { parseNvilaLite, parseNvilaParts, type NvilaConfig } from "./config.ts";

const imageToken = "<image>";

/** @throws InvalidError (`bad_model_config`) naming the key, or when no token stands for pictures */
export function openNvilaParts(configFile: unknown, folder: FolderFacts): Model {
  return open(parseNvilaParts(configFile), typeOf(configFile), folder);
}

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openNvilaLite(configFile: unknown, folder: FolderFacts): Model {
  return open(parseNvilaLite(configFile), typeOf(configFile), folder);
}

function typeOf(configFile: unknown): string {
  return (configFile as { readonly model_type: string }).model_type;
}

function open(config: NvilaConfig, type: string, folder: FolderFacts): Model {
  const { text, vision, tiling } = config;
  const imageTokenId = config.imageTokenId ?? folder.tokenId(imageToken);
  if (imageTokenId === undefined)
    throw badConfig(
      `says nothing of the picture's token, and the tokenizer.json in the folder or in its llm has no ${imageToken}; copy the tokenizer that came with the model`,
    );
  const cells = cellsPerSide(vision.side);
  const tile = {
    side: vision.side,
    patchSize: vision.channels * vision.patchSize ** 2,
    tokens: cells ** 2,
    places: Array.from({ length: vision.side ** 2 }, (_, place) => place),
  };
  const tiles = {
    patchSize: vision.patchSize,
    side: vision.side,
    places: tile.places,
    tokensPerTile: tile.tokens,
    ...tiling,
    hasThumbnail: true,
  };
  const model = openTiledModel({
    type,
    text,
    tile,
    imageTokenId,
    boxConvention: "undocumented",
    turns: chatMl,
    tower: (variables, { patches }) => {
      const { last, blocks } = siglipBlocks(variables, vision, "model.vision_tower", patches);
      const sizes = { side: vision.side, towerWidth: vision.hiddenSize, width: text.decoder.hiddenSize };
      return { features: nvilaBridge(variables, "model.mm_projector", last, sizes), blocks };
    },
    placeholders: (image, tokenizer) => tilePlaces(image, tokenizer, imageTokenId),
    imageProcessor: (file, bounds) => imageProcessor(file, tiles, bounds),
    storedNames,
    isUnused: (name) =>
      isBehindFeatures(name, vision.depth) ||
      /^vision_tower\.(?:vision_model\.)?(?:head\.|post_layernorm\.|embeddings\.position_ids$)/.test(name),
  });
  return {
    ...model,
    chatTemplate: nvilaTemplate,
    loraRefusal: `NVILA-Lite takes no adapter: ${nvilaLoraRefusal}; use mode "full"`,
  };
}

/** A picture is cut into tiles only when it is alone in its conversation. Source: `generate_content` of `llava_arch.py`. */
function imageProcessor(file: unknown, tiles: TileSettings, bounds: PixelBounds): ImageProcessor {
  const alone = new TileImageProcessor(file, tiles, bounds, "siglip");
  const ofSeveral = new TileImageProcessor(file, { ...tiles, minTiles: 1, maxTiles: 1 }, bounds, "siglip");
  return Object.assign(alone, { ofSeveral });
}

/**
 * A picture of several tiles is several pictures to the text, each on a line of its own. Behind each tile's features stands the
 * embedding of a line break, whatever follows in the text. The end of the last line is the template's.
 */
function tilePlaces({ tokens, grid }: ProcessedImage, tokenizer: TextTokenizer, imageTokenId: number): number[] {
  const end = tokenizer.encode("\n");
  const features = Array.from({ length: tokens / grid.time }, () => imageTokenId);
  return Array.from({ length: grid.time }, (_, tile) => [...(tile > 0 ? end : []), ...features, ...end]).flat();
}

function storedNames(name: string): readonly string[] {
  const [stored] = renamed(name, [
    [/^model\.language_model\./, "llm.model."],
    [/^lm_head\./, "llm.lm_head."],
    [/^model\.vision_tower\./, "vision_tower.vision_model."],
    [/^model\.mm_projector\./, "mm_projector."],
  ]);
  const short = stored.replace("vision_tower.vision_model.", "vision_tower.");
  return short === stored ? [stored] : [stored, short];
}
