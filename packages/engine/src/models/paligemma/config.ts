import { z } from "zod";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { readGemma } from "../parts/gemma-config.ts";
import type { PlainText } from "../parts/plain-text-config.ts";
import { readSiglip, SiglipFile, type SiglipConfig } from "../parts/siglip-tower.ts";

/** What the graphs need to know of a PaliGemma model; every size comes from its config.json, or from the class that it names. */
export interface PaliGemmaConfig {
  readonly text: PlainText;
  readonly vision: SiglipConfig;
  readonly imageTokenId: number;
}

const ConfigFile = z.looseObject({
  model_type: z.literal("paligemma"),
  text_config: z.unknown(),
  vision_config: SiglipFile,
  image_token_index: z.number().optional(),
  image_token_id: z.number().optional(),
  projection_dim: z.number().optional(),
  tie_word_embeddings: z.boolean().optional(),
});

/**
 * Reads a `config.json` of `model_type: paligemma`.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parsePaliGemmaConfig(file: unknown): PaliGemmaConfig {
  const { vision_config: vision, ...top } = readConfigFile(ConfigFile, file);
  const imageTokenId = top.image_token_index ?? top.image_token_id;
  if (imageTokenId === undefined) throw badConfig("image_token_index is missing");
  const text = readGemma("text_config", top.text_config, top.tie_word_embeddings ?? true);
  const { hiddenSize } = text.decoder;
  if (top.projection_dim !== undefined && top.projection_dim !== hiddenSize)
    throw badConfig(
      `projection_dim ${top.projection_dim} is not text_config.hidden_size ${hiddenSize}: pictures would not fit the text`,
    );
  return { text, vision: readSiglip(vision), imageTokenId };
}
