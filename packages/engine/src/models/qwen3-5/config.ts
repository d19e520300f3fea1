import { z } from "zod";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { readQwenVision, type QwenVisionConfig } from "../qwen3-vl/config.ts";

const RopeParameters = z.looseObject({
  rope_theta: z.number().optional(),
  mrope_section: z.array(z.number()).optional(),
  partial_rotary_factor: z.number().optional(),
});

const TextFile = z.looseObject({
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number(),
  head_dim: z.number().default(256),
  rms_norm_eps: z.number().default(1e-6),
  max_position_embeddings: z.number().default(32768),
  rope_theta: z.number().optional(),
  partial_rotary_factor: z.number().optional(),
  rope_scaling: RopeParameters.nullish(),
  rope_parameters: RopeParameters.nullish(),
  attention_bias: z.literal(false, "true is not run").nullish(),
  hidden_act: z.literal("silu", 'only "silu" is run').default("silu"),
  linear_conv_kernel_dim: z.int().min(2).default(4),
  linear_key_head_dim: z.number().default(128),
  linear_value_head_dim: z.number().default(128),
  linear_num_key_heads: z.number().default(16),
  linear_num_value_heads: z.number().default(32),
  layer_types: z.array(z.enum(["linear_attention", "full_attention"])).nullish(),
  full_attention_interval: z.number().default(4),
  tie_word_embeddings: z.boolean().optional(),
});

const ConfigFile = z.looseObject({
  model_type: z.literal("qwen3_5"),
  text_config: TextFile,
  vision_config: z.unknown(),
  image_token_id: z.number(),
  tie_word_embeddings: z.boolean().optional(),
});

/** What the graphs need to know of a Qwen3.5 model; every size comes from its config.json. */
export interface Qwen35Config {
  readonly text: HybridDecoderConfig;
  readonly vision: QwenVisionConfig;
  /** Positions. */
  readonly contextWindow: number;
  readonly ropeTheta: number;
  /** Rotary frequency slots by axis: time, height, width; interleaved. */
  readonly mropeSection: readonly [number, number, number];
  readonly imageTokenId: number;
}

export interface HybridDecoderConfig {
  readonly vocabularySize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  /** Of each layer: attention over all tokens before, or a state that they leave. */
  readonly layerKinds: readonly ("full" | "linear")[];
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  /** Numbers of a head that are rotated; the others pass through. */
  readonly rotarySize: number;
  readonly epsilon: number;
  readonly tiesEmbeddings: boolean;
  readonly delta: DeltaNetConfig;
}

/** Sizes of a gated DeltaNet. */
export interface DeltaNetConfig {
  readonly keyHeads: number;
  readonly keySize: number;
  /** A multiple of the key heads. */
  readonly valueHeads: number;
  readonly valueSize: number;
  /** Tokens that the causal convolution sees. */
  readonly kernel: number;
}

/**
 * Reads a `config.json` of `model_type: qwen3_5`, old and new spelling of the rotary keys.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseQwen35Config(file: unknown): Qwen35Config {
  const { text_config: text, vision_config: vision, ...top } = readConfigFile(ConfigFile, file);
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  const rotarySize = Math.trunc(text.head_dim * (rope.partial_rotary_factor ?? text.partial_rotary_factor ?? 0.25));
  const section = rope.mrope_section ?? [11, 11, 10];
  const [time, height, width] = section;
  if (time === undefined || height === undefined || width === undefined || time + height + width !== rotarySize / 2)
    throw badConfig(
      `text_config: mrope_section [${section.join(", ")}] does not add up to half of the ${rotarySize} rotated numbers of a head`,
    );
  if (text.linear_num_value_heads % text.linear_num_key_heads !== 0)
    throw badConfig(
      `text_config: linear_num_value_heads ${text.linear_num_value_heads} is no multiple of linear_num_key_heads ${text.linear_num_key_heads}`,
    );
  return {
    text: {
      vocabularySize: text.vocab_size,
      hiddenSize: text.hidden_size,
      intermediateSize: text.intermediate_size,
      layerKinds: layerKinds(text),
      heads: text.num_attention_heads,
      keyValueHeads: text.num_key_value_heads,
      headSize: text.head_dim,
      rotarySize,
      epsilon: text.rms_norm_eps,
      tiesEmbeddings: top.tie_word_embeddings ?? text.tie_word_embeddings ?? false,
      delta: {
        keyHeads: text.linear_num_key_heads,
        keySize: text.linear_key_head_dim,
        valueHeads: text.linear_num_value_heads,
        valueSize: text.linear_value_head_dim,
        kernel: text.linear_conv_kernel_dim,
      },
    },
    // The tower of this family feeds the first layer only, whatever an empty list in the file says.
    vision: { ...readQwenVision(vision), deepstackIndexes: [] },
    contextWindow: text.max_position_embeddings,
    ropeTheta: rope.rope_theta ?? text.rope_theta ?? 10_000_000,
    mropeSection: [time, height, width],
    imageTokenId: top.image_token_id,
  };
}

function layerKinds(text: z.output<typeof TextFile>): ("full" | "linear")[] {
  const named = text.layer_types ?? null;
  if (named && named.length !== text.num_hidden_layers)
    throw badConfig(
      `text_config: layer_types names ${named.length} layers, num_hidden_layers is ${text.num_hidden_layers}`,
    );
  return Array.from({ length: text.num_hidden_layers }, (_, index) => {
    const isFull = named ? named[index] === "full_attention" : (index + 1) % text.full_attention_interval === 0;
    return isFull ? "full" : "linear";
  });
}
