import { z } from "zod";
import { activationOf, type Activation } from "../parts/activations.ts";
import { badConfig, readConfigFile } from "../parts/config-file.ts";
import { llama3Frequencies } from "../parts/rotary-scaling.ts";
import type { DecoderConfig } from "../parts/decoder-config.ts";
import { plainRotary, type RotaryConfig } from "../parts/text-inputs.ts";

/** What the graphs need to know of a Mllama model; every size comes from its config.json, or from the class that it names. */
export interface MllamaConfig {
  readonly text: DecoderConfig;
  readonly rotary: RotaryConfig;
  /** Decoder layers that look at pictures in place of the text. */
  readonly crossLayers: ReadonlySet<number>;
  /** Rows of the embedding: the vocabulary and the tokens that are never written, such as that of pictures. */
  readonly embeddingRows: number;
  /** Positions. */
  readonly contextWindow: number;
  readonly vision: MllamaVisionConfig;
  readonly imageTokenId: number;
}

export interface MllamaVisionConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly heads: number;
  readonly localLayers: number;
  readonly globalLayers: number;
  /** Local layers whose output is handed on beside the last state. */
  readonly intermediateLayers: readonly number[];
  readonly channels: number;
  readonly patchSize: number;
  /** Patches a side of a tile. */
  readonly side: number;
  /** Tiles that every picture is filled up to. */
  readonly tiles: number;
  /** `[rows, columns]` of tiles that pictures may be cut into, in the order of their learned embeddings. */
  readonly tilings: readonly (readonly [number, number])[];
  readonly epsilon: number;
  readonly activation: Activation;
}

/** Rows of the embedding beyond the vocabulary. */
const furtherEmbeddings = 8;

const Rope = z.looseObject({
  rope_type: z.enum(["default", "llama3"]).optional(),
  type: z.enum(["default", "llama3"]).optional(),
  rope_theta: z.number().optional(),
});

const TextFile = z.looseObject({
  vocab_size: z.number().default(128_256),
  hidden_size: z.number().default(4096),
  intermediate_size: z.number().default(14_336),
  num_hidden_layers: z.number().default(40),
  num_attention_heads: z.number().default(32),
  num_key_value_heads: z.number().default(8),
  hidden_act: z.literal("silu").default("silu"),
  rms_norm_eps: z.number().default(1e-5),
  max_position_embeddings: z.number().default(131_072),
  cross_attention_layers: z.array(z.number()).nullish(),
  rope_theta: z.number().optional(),
  rope_scaling: Rope.nullish(),
  rope_parameters: Rope.nullish(),
});

const VisionFile = z.looseObject({
  hidden_size: z.number().default(1280),
  intermediate_size: z.number().default(5120),
  attention_heads: z.number().optional(),
  num_attention_heads: z.number().optional(),
  num_hidden_layers: z.number().default(32),
  num_global_layers: z.number().default(8),
  intermediate_layers_indices: z.array(z.number()).nullish(),
  num_channels: z.number().default(3),
  patch_size: z.number().default(14),
  image_size: z.number().default(448),
  max_num_tiles: z.number().default(4),
  supported_aspect_ratios: z.array(z.tuple([z.number(), z.number()])).nullish(),
  vision_output_dim: z.number().default(7680),
  norm_eps: z.number().default(1e-5),
  hidden_act: z.string().default("gelu"),
});

const ConfigFile = z.looseObject({
  model_type: z.literal("mllama"),
  text_config: TextFile,
  vision_config: VisionFile,
  image_token_index: z.number().optional(),
  image_token_id: z.number().optional(),
});

/**
 * Reads a `config.json` of `model_type: mllama`.
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function parseMllamaConfig(file: unknown): MllamaConfig {
  const { text_config: text, vision_config: vision, ...top } = readConfigFile(ConfigFile, file);
  const headSize = text.hidden_size / text.num_attention_heads;
  if (!Number.isInteger(headSize))
    throw badConfig(
      `text_config.hidden_size ${text.hidden_size} does not divide by num_attention_heads ${text.num_attention_heads}`,
    );
  const crossLayers = text.cross_attention_layers ?? [3, 8, 13, 18, 23, 28, 33, 38];
  refuseOutside("text_config.cross_attention_layers", crossLayers, text.num_hidden_layers);
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
      tiesEmbeddings: false,
      hasQueryKeyValueBias: false,
      hasQueryKeyNorm: false,
      normsArePlusOne: false,
      activation: "Silu",
      embeddingScale: 1,
    },
    rotary: rotaryOf(text, headSize),
    crossLayers: new Set(crossLayers),
    embeddingRows: text.vocab_size + furtherEmbeddings,
    contextWindow: text.max_position_embeddings,
    vision: visionOf(vision),
    imageTokenId: top.image_token_index ?? top.image_token_id ?? 128_256,
  };
}

function rotaryOf(text: z.output<typeof TextFile>, headSize: number): RotaryConfig {
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  const plain = plainRotary(rope.rope_theta ?? text.rope_theta ?? 500_000, headSize);
  if ((rope.rope_type ?? rope.type ?? "default") === "default") return plain;
  const key = text.rope_parameters ? "text_config.rope_parameters" : "text_config.rope_scaling";
  return { ...plain, frequencies: llama3Frequencies(plain.frequencies, key, rope) };
}

function visionOf(vision: z.output<typeof VisionFile>): MllamaVisionConfig {
  const heads = vision.attention_heads ?? vision.num_attention_heads ?? 16;
  const side = vision.image_size / vision.patch_size;
  if (!Number.isInteger(side))
    throw badConfig(`vision_config.image_size ${vision.image_size} is no multiple of patch_size ${vision.patch_size}`);
  if (vision.hidden_size % heads !== 0)
    throw badConfig(`vision_config.hidden_size ${vision.hidden_size} does not divide by attention_heads ${heads}`);
  const intermediateLayers = vision.intermediate_layers_indices ?? [3, 7, 15, 23, 30];
  refuseOutside("vision_config.intermediate_layers_indices", intermediateLayers, vision.num_hidden_layers);
  const output = vision.hidden_size * (1 + intermediateLayers.length);
  if (vision.vision_output_dim !== output)
    throw badConfig(
      `vision_config.vision_output_dim is ${vision.vision_output_dim}, but the last state and ${intermediateLayers.length} others of ${vision.hidden_size} values make ${output}`,
    );
  const tilings = vision.supported_aspect_ratios ?? tilingsOf(vision.max_num_tiles);
  const tooMany = tilings.find(([rows, columns]) => rows * columns > vision.max_num_tiles);
  if (tooMany)
    throw badConfig(
      `vision_config.supported_aspect_ratios has [${tooMany.join(", ")}], more than max_num_tiles ${vision.max_num_tiles}`,
    );
  return {
    hiddenSize: vision.hidden_size,
    intermediateSize: vision.intermediate_size,
    heads,
    localLayers: vision.num_hidden_layers,
    globalLayers: vision.num_global_layers,
    intermediateLayers,
    channels: vision.num_channels,
    patchSize: vision.patch_size,
    side,
    tiles: vision.max_num_tiles,
    tilings,
    epsilon: vision.norm_eps,
    activation: activationOf(vision.hidden_act, "vision_config.hidden_act"),
  };
}

/** All ways to lay out at most `tiles` tiles, `[rows, columns]`, in the order of their embeddings. */
export function tilingsOf(tiles: number): [number, number][] {
  const counts = Array.from({ length: tiles }, (_, index) => index + 1);
  return counts.flatMap((rows) =>
    counts.filter((columns) => rows * columns <= tiles).map((columns): [number, number] => [rows, columns]),
  );
}

function refuseOutside(key: string, layers: readonly number[], count: number): void {
  const outside = layers.find((layer) => !Number.isInteger(layer) || layer < 0 || layer >= count);
  if (outside !== undefined) throw badConfig(`${key} names layer ${outside}, but there are ${count}, counted from 0`);
}
