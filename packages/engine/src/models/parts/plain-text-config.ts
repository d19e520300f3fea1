/*
 * Configurations of decoders with plain rotary positions: Llama, Mistral, Qwen2 and Qwen3 as parts of vision-language models.
 * Old and new spelling of the rotary keys.
 */
import { z } from "zod";
import { badConfig, readConfigFile } from "./config-file.ts";
import { llama3Frequencies } from "./rotary-scaling.ts";
import type { DecoderConfig } from "./decoder-config.ts";
import { plainRotary, type RotaryConfig } from "./text-inputs.ts";

const Rope = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().optional(),
  factor: z.number().positive().optional(),
});

const TextFile = z.looseObject({
  model_type: z.string(),
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number(),
  head_dim: z.number().nullish(),
  hidden_act: z.string().default("silu"),
  rms_norm_eps: z.number().default(1e-6),
  max_position_embeddings: z.number(),
  rope_theta: z.number().optional(),
  rope_scaling: Rope.nullish(),
  rope_parameters: Rope.nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
});
type TextFile = z.output<typeof TextFile>;

/** A decoder with its rotary positions and how far they reach. */
export interface PlainText {
  readonly decoder: DecoderConfig;
  readonly rotary: RotaryConfig;
  /** Positions. */
  readonly contextWindow: number;
  /** What the decoder's own part says of tied embeddings; undefined = nothing. */
  readonly tiesEmbeddings: boolean | undefined;
}

/** Where the decoders differ. */
const kinds: Readonly<Record<string, Pick<DecoderConfig, "hasQueryKeyValueBias" | "hasQueryKeyNorm">>> = {
  llama: { hasQueryKeyValueBias: false, hasQueryKeyNorm: false },
  mistral: { hasQueryKeyValueBias: false, hasQueryKeyNorm: false },
  qwen2: { hasQueryKeyValueBias: true, hasQueryKeyNorm: false },
  qwen3: { hasQueryKeyValueBias: false, hasQueryKeyNorm: true },
};

/**
 * @param key   where the decoder's part stands in config.json (`text_config`)
 * @param ties  whether input and output embeddings are one tensor, given what the part says of it
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function readPlainText(key: string, file: unknown, ties: (own: boolean | undefined) => boolean): PlainText {
  const { [key]: text } = readConfigFile(z.object({ [key]: TextFile }), { [key]: file }) as Record<string, TextFile>;
  if (!text) throw badConfig(`${key} is missing`);
  const kind = Object.hasOwn(kinds, text.model_type) ? kinds[text.model_type] : undefined;
  if (!kind)
    throw badConfig(
      `${key}.model_type is "${text.model_type}", a decoder that Drydock does not run here; it runs ${Object.keys(kinds).join(", ")}`,
    );
  for (const bias of ["attention_bias", "mlp_bias"] as const)
    if (text[bias]) throw badConfig(`${key}.${bias} is true, which Drydock does not run`);
  if (text.hidden_act !== "silu") throw badConfig(`${key}.hidden_act is "${text.hidden_act}", not "silu"`);
  const headSize = text.head_dim ?? text.hidden_size / text.num_attention_heads;
  const own = text.tie_word_embeddings ?? undefined;
  return {
    decoder: {
      vocabularySize: text.vocab_size,
      hiddenSize: text.hidden_size,
      intermediateSize: text.intermediate_size,
      layers: text.num_hidden_layers,
      heads: text.num_attention_heads,
      keyValueHeads: text.num_key_value_heads,
      headSize,
      epsilon: text.rms_norm_eps,
      tiesEmbeddings: ties(own),
      ...kind,
      normsArePlusOne: false,
      activation: "Silu",
      embeddingScale: 1,
    },
    rotary: rotaryOf(key, text, headSize),
    contextWindow: Math.min(text.max_position_embeddings, slidingWindow(text) ?? Number.POSITIVE_INFINITY),
    tiesEmbeddings: own,
  };
}

/** Within its window a sliding attention is the plain one, so rows are kept as short as that. */
function slidingWindow({ model_type, sliding_window, use_sliding_window }: TextFile): number | null {
  const slides = use_sliding_window ?? model_type === "mistral";
  return slides ? (sliding_window ?? null) : null;
}

/**
 * `dynamic` (InternVL3) changes nothing up to `max_position_embeddings`, and rows are never longer; `linear` divides positions.
 * Source: `modeling_rope_utils.py` of huggingface/transformers 5.23.
 */
function rotaryOf(key: string, text: TextFile, headSize: number): RotaryConfig {
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  const plain = plainRotary(rope.rope_theta ?? text.rope_theta ?? 10_000, headSize);
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type === "default" || type === "dynamic") return plain;
  if (type === "llama3") {
    const place = text.rope_parameters ? `${key}.rope_parameters` : `${key}.rope_scaling`;
    return { ...plain, frequencies: llama3Frequencies(plain.frequencies, place, rope) };
  }
  if (type !== "linear")
    throw badConfig(
      `${key}: rotary positions of type "${type}", which Drydock does not run; it runs default, linear, dynamic and llama3`,
    );
  const factor = rope.factor ?? 1;
  return { ...plain, frequencies: plain.frequencies.map((frequency) => frequency / factor) };
}
