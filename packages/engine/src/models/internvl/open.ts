/*
 * InternVL in its two published forms: `internvl` of transformers, and `internvl_chat` with code of its own, whose files name
 * weights in another way and leave picture token and chat template to that code. In memory both are the first.
 */
import { TileImageProcessor } from "../../image/tile-image-processor.ts";
import { placesInCells } from "../../image/tile-patches.ts";
import { chatMl, type FolderFacts, type Model } from "../model.ts";
import { badConfig } from "../parts/config-file.ts";
import { isBehindFeatures } from "../parts/feature-layer.ts";
import { fileNames } from "../parts/file-names.ts";
import { openTiledModel, type TiledModel } from "../parts/tiled-model.ts";
import { remoteChatTemplate } from "./chat-template.ts";
import { parseInternVlChatConfig, parseInternVlConfig, type InternVlConfig } from "./config.ts";
import { remoteNames, remotePart } from "./stored-names.ts";
import { internVision } from "./vision-tower.ts";

const contextToken = "<IMG_CONTEXT>";
/** Special tokens that stand for text: grounding answers are written with them. */
const textTokens = ["<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"];

/** @throws InvalidError (`bad_model_config`) naming the key */
export function openInternVl(configFile: unknown): Model {
  const config = parseInternVlConfig(configFile);
  return open(config, config.imageTokenId as number, {
    type: "internvl",
    form: "got-ocr2",
    storedNames: fileNames,
  });
}

/** @throws InvalidError (`bad_model_config`) naming the key, or when no token stands for pictures */
export function openInternVlChat(configFile: unknown, folder: FolderFacts): Model {
  const config = parseInternVlChatConfig(configFile);
  const imageTokenId = config.imageTokenId ?? folder.tokenId(contextToken);
  if (imageTokenId === undefined)
    throw badConfig(
      `says nothing of the picture's token, and the folder's tokenizer.json has no ${contextToken}; copy the tokenizer that came with the model`,
    );
  return {
    ...open(config, imageTokenId, { type: "internvl_chat", form: "remote", storedNames: remoteNames }),
    storedPart: remotePart,
    chatTemplate: remoteChatTemplate,
  };
}

function open(
  config: InternVlConfig,
  imageTokenId: number,
  published: Pick<TiledModel, "type" | "storedNames"> & { readonly form: "got-ocr2" | "remote" },
): Model {
  const { text, vision, tiling } = config;
  const { form, ...names } = published;
  const tile = {
    side: vision.side,
    patchSize: vision.channels * vision.patchSize ** 2,
    tokens: (vision.side / vision.mergeSize) ** 2,
    places: placesInCells(vision.side, vision.mergeSize),
  };
  const tiles = {
    patchSize: vision.patchSize,
    side: vision.side,
    places: tile.places,
    tokensPerTile: tile.tokens,
    minTiles: tiling.isDynamic ? tiling.minTiles : 1,
    maxTiles: tiling.isDynamic ? tiling.maxTiles : 1,
    hasThumbnail: tiling.hasThumbnail,
  };
  return {
    ...openTiledModel({
      ...names,
      text,
      tile,
      imageTokenId,
      boxConvention: "internvl-ref-box",
      turns: chatMl,
      tower: (variables, inputs) => internVision(variables, vision, text.decoder.hiddenSize, inputs),
      placeholders: ({ tokens }, tokenizer) => [
        tokenizer.idOf("<img>"),
        ...Array.from({ length: tokens }, () => imageTokenId),
        tokenizer.idOf("</img>"),
      ],
      imageProcessor: (file, bounds) => new TileImageProcessor(file, tiles, bounds, form),
      isUnused: (name) =>
        isBehindFeatures(name, vision.featureLayer) ||
        (vision.featureLayer < vision.depth && /vision_tower\.layernorm\./.test(name)),
    }),
    textTokens,
  };
}
