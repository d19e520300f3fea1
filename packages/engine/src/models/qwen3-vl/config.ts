import { InvalidError } from "@drydock/kit";
import { z } from "zod";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import type { DecoderConfig } from "../parts/decoder-config.ts";

const RopeParameters = z.object({
  rope_theta: z.number().optional(),
  mrope_section: z.array(z.number()).optional(),
});

const TextFile = z.object({
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number(),
  head_dim: z.number().optional(),
  rms_norm_eps: z.number().default(1e-6),
  max_position_embeddings: z.number().default(262144),
  rope_theta: z.number().optional(),
  rope_scaling: RopeParameters.nullish(),
  rope_parameters: RopeParameters.nullish(),
  tie_word_embeddings: z.boolean().optional(),
});

const VisionFile = z.object({
  depth: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_heads: z.number(),
  in_channels: z.number().default(3),
  patch_size: z.number(),
  spatial_merge_size: z.number().default(2),
  temporal_patch_size: z.number().default(2),
  out_hidden_size: z.number(),
  num_position_embeddings: z.number(),
  deepstack_visual_indexes: z.array(z.number()).default([]),
});

const ConfigFile = z.object({
  model_type: z.literal("qwen3_vl"),
  text_config: TextFile,
  vision_config: VisionFile,
  image_token_id: z.number(),
  vision_start_token_id: z.number().optional(),
  vision_end_token_id: z.number().optional(),
  tie_word_embeddings: z.boolean().optional(),
});

/** What the graphs need to know of a Qwen3-VL model; every size comes from its config.json. */
export interface Qwen3VlConfig {
  readonly text: DecoderConfig;
  readonly vision: QwenVisionConfig;
  /** Positions. */
  readonly contextWindow: number;
  readonly ropeTheta: number;
  /** Rotary frequency slots by axis: time, height, width; interleaved. */
  readonly mropeSection: readonly [number, number, number];
  readonly imageTokenId: number;
}

/** The image tower of Qwen3-VL and Qwen3.5. */
export interface QwenVisionConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly channels: number;
  readonly patchSize: number;
  readonly mergeSize: number;
  readonly temporalPatchSize: number;
  readonly outputSize: number;
  /** Side of the square table of learned positions. */
  readonly positionSide: number;
  readonly deepstackIndexes: readonly number[];
}

/**
 * Reads a `config.json` of `model_type: qwen3_vl`, old and new spelling of the rotary keys.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseQwen3VlConfig(file: unknown): Qwen3VlConfig {
  const parsed = ConfigFile.safeParse(file);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    throw new InvalidError(
      "bad_model_config",
      `config.json: ${issue?.path.join(".") ?? "file"}: ${issue?.message ?? "not understood"}`,
    );
  }
  const { text_config: text, vision_config: vision, ...top } = parsed.data;
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  const headSize = text.head_dim ?? text.hidden_size / text.num_attention_heads;
  const section = rope.mrope_section ?? [headSize / 2, 0, 0];
  const [time, height, width] = section;
  if (time === undefined || height === undefined || width === undefined || time + height + width !== headSize / 2)
    throw new InvalidError(
      "bad_model_config",
      `config.json: mrope_section [${section.join(", ")}] does not add up to half of head_dim ${headSize}`,
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
      hasQueryKeyValueBias: false,
      hasQueryKeyNorm: true,
      normsArePlusOne: false,
      activation: "Silu",
      embeddingScale: 1,
    },
    vision: visionOf(vision),
    contextWindow: text.max_position_embeddings,
    ropeTheta: rope.rope_theta ?? text.rope_theta ?? 5_000_000,
    mropeSection: [time, height, width],
    imageTokenId: top.image_token_id,
  };
}

/** The `vision_config` of Qwen3-VL and of families that have its tower. @throws InvalidError (`bad_model_config`) naming the key */
export function readQwenVision(file: unknown): QwenVisionConfig {
  return visionOf(readConfigFile(z.object({ vision_config: VisionFile }), { vision_config: file }).vision_config);
}

function visionOf(vision: z.output<typeof VisionFile>): QwenVisionConfig {
  const side = Math.round(Math.sqrt(vision.num_position_embeddings));
  if (side * side !== vision.num_position_embeddings)
    throw badConfig(`num_position_embeddings ${vision.num_position_embeddings} is not a square`);
  return {
    depth: vision.depth,
    hiddenSize: vision.hidden_size,
    intermediateSize: vision.intermediate_size,
    heads: vision.num_heads,
    channels: vision.in_channels,
    patchSize: vision.patch_size,
    mergeSize: vision.spatial_merge_size,
    temporalPatchSize: vision.temporal_patch_size,
    outputSize: vision.out_hidden_size,
    positionSide: side,
    deepstackIndexes: vision.deepstack_visual_indexes,
  };
}
