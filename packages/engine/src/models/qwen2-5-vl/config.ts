import { z } from "zod";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import type { DecoderConfig } from "../parts/decoder-config.ts";

const RopeParameters = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().optional(),
  mrope_section: z.array(z.number()).optional(),
});

const TextFile = z.looseObject({
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number(),
  rms_norm_eps: z.number().default(1e-5),
  max_position_embeddings: z.number().default(32768),
  rope_theta: z.number().optional(),
  rope_scaling: RopeParameters.nullish(),
  rope_parameters: RopeParameters.nullish(),
  use_sliding_window: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().optional(),
});

const VisionFile = z.looseObject({
  depth: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_heads: z.number(),
  in_channels: z.number().optional(),
  in_chans: z.number().optional(),
  patch_size: z.number().default(14),
  spatial_merge_size: z.number().default(2),
  temporal_patch_size: z.number().default(2),
  window_size: z.number().default(112),
  out_hidden_size: z.number(),
  fullatt_block_indexes: z.array(z.number()).default([7, 15, 23, 31]),
  hidden_act: z.literal("silu", 'only "silu" is run').default("silu"),
});

const ConfigFile = z.looseObject({
  model_type: z.literal("qwen2_5_vl"),
  text_config: z.unknown().optional(),
  vision_config: VisionFile,
  image_token_id: z.number().default(151655),
  tie_word_embeddings: z.boolean().optional(),
});

/** What the graphs need to know of a Qwen2.5-VL model; every size comes from its config.json. */
export interface Qwen25VlConfig {
  readonly text: DecoderConfig;
  readonly vision: WindowedVisionConfig;
  /** Positions. */
  readonly contextWindow: number;
  readonly ropeTheta: number;
  /** Rotary frequency slots by axis: time, height, width; one behind the other. */
  readonly mropeSection: readonly [number, number, number];
  readonly imageTokenId: number;
}

export interface WindowedVisionConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly channels: number;
  readonly patchSize: number;
  readonly mergeSize: number;
  readonly temporalPatchSize: number;
  readonly outputSize: number;
  /** Side of a window in merged cells. */
  readonly windowCells: number;
  /** Blocks that attend over the whole picture. */
  readonly wholeBlocks: ReadonlySet<number>;
}

/**
 * Reads a `config.json` of `model_type: qwen2_5_vl`, text keys in `text_config` or, as published, at the top level; old and new
 * spelling of the rotary keys.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseQwen25VlConfig(file: unknown): Qwen25VlConfig {
  const { text_config: nested, vision_config: vision, ...top } = readConfigFile(ConfigFile, file);
  const text =
    nested === undefined || nested === null
      ? readConfigFile(TextFile, top)
      : readConfigFile(z.object({ text_config: TextFile }), { text_config: nested }).text_config;
  if (text.use_sliding_window) throw badConfig("use_sliding_window is true, which Drydock does not run");
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  const ropeType = rope.rope_type ?? rope.type ?? "default";
  // Published files call plain frequencies on three axes "mrope".
  if (ropeType !== "default" && ropeType !== "mrope")
    throw badConfig(`rotary positions of type "${ropeType}", which Drydock does not run; it runs default and mrope`);
  const headSize = text.hidden_size / text.num_attention_heads;
  const [time, height, width] = rope.mrope_section ?? [16, 24, 24];
  if (time === undefined || height === undefined || width === undefined || time + height + width !== headSize / 2)
    throw badConfig(
      `mrope_section [${(rope.mrope_section ?? []).join(", ")}] does not add up to half of the head size ${headSize}`,
    );
  const windowCells = Math.floor(vision.window_size / vision.spatial_merge_size / vision.patch_size);
  if (windowCells < 1)
    throw badConfig(
      `vision_config.window_size ${vision.window_size} is smaller than a merged cell of ${vision.patch_size * vision.spatial_merge_size} pixels`,
    );
  return {
    text: {
      vocabularySize: text.vocab_size,
      hiddenSize: text.hidden_size,
      intermediateSize: text.intermediate_size,
      layers: text.num_hidden_layers,
      heads: text.num_attention_heads,
      keyValueHeads: text.num_key_value_heads,
      headSize,
      epsilon: text.rms_norm_eps,
      tiesEmbeddings: top.tie_word_embeddings ?? text.tie_word_embeddings ?? false,
      hasQueryKeyValueBias: true,
      hasQueryKeyNorm: false,
      normsArePlusOne: false,
      activation: "Silu",
      embeddingScale: 1,
    },
    vision: {
      depth: vision.depth,
      hiddenSize: vision.hidden_size,
      intermediateSize: vision.intermediate_size,
      heads: vision.num_heads,
      channels: vision.in_channels ?? vision.in_chans ?? 3,
      patchSize: vision.patch_size,
      mergeSize: vision.spatial_merge_size,
      temporalPatchSize: vision.temporal_patch_size,
      outputSize: vision.out_hidden_size,
      windowCells,
      wholeBlocks: new Set(vision.fullatt_block_indexes),
    },
    contextWindow: text.max_position_embeddings,
    ropeTheta: rope.rope_theta ?? text.rope_theta ?? 1_000_000,
    mropeSection: [time, height, width],
    imageTokenId: top.image_token_id,
  };
}
