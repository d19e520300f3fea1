/*
 * Configurations of Gemma decoders as parts of vision-language models, old and new spelling of the rotary keys.
 * Source: `GemmaConfig` and `Gemma2Config` of huggingface/transformers 5.23.
 */
import { withTextDefaults } from "@drydock/spec";
import { z } from "zod";
import { badConfig, readConfigFile } from "./config-file.ts";
import type { PlainText } from "./plain-text-config.ts";
import type { DecoderConfig } from "./decoder-config.ts";
import { plainRotary } from "./text-inputs.ts";

const Rope = z.looseObject({
  rope_type: z.literal("default", "only plain rotary positions are run").optional(),
  rope_theta: z.number().optional(),
});

const GemmaFile = z.looseObject({
  model_type: z.enum(["gemma", "gemma2"], "only Gemma and Gemma 2 decoders are run"),
  vocab_size: z.number(),
  hidden_size: z.number(),
  intermediate_size: z.number(),
  num_hidden_layers: z.number(),
  num_attention_heads: z.number(),
  num_key_value_heads: z.number(),
  head_dim: z.number(),
  // Old files say gelu or nothing and mean the curve drawn with tanh.
  hidden_act: z.enum(["gelu", "gelu_pytorch_tanh"]).default("gelu_pytorch_tanh"),
  hidden_activation: z.literal("gelu_pytorch_tanh").nullish(),
  rms_norm_eps: z.number().default(1e-6),
  max_position_embeddings: z.number(),
  rope_theta: z.number().optional(),
  rope_scaling: Rope.nullish(),
  rope_parameters: Rope.nullish(),
  query_pre_attn_scalar: z.number().positive().default(256),
  attn_logit_softcapping: z.number().positive().nullable().default(50),
  final_logit_softcapping: z.number().positive().nullable().default(30),
  sliding_window: z.number().positive().nullable().default(4096),
  layer_types: z.array(z.enum(["sliding_attention", "full_attention"])).nullish(),
  attention_bias: z.literal(false, "biases of attention are not run").default(false),
});

/**
 * @param key   where the decoder's part stands in config.json (`text_config`)
 * @param ties  whether input and output embeddings are one tensor
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function readGemma(key: string, file: unknown, ties: boolean): PlainText {
  const filled = withTextDefaults(file, "gemma");
  const { [key]: text } = readConfigFile(z.object({ [key]: GemmaFile }), { [key]: filled });
  if (!text) throw badConfig(`${key} is missing`);
  const rope = text.rope_parameters ?? text.rope_scaling ?? {};
  return {
    decoder: {
      vocabularySize: text.vocab_size,
      hiddenSize: text.hidden_size,
      intermediateSize: text.intermediate_size,
      layers: text.num_hidden_layers,
      heads: text.num_attention_heads,
      keyValueHeads: text.num_key_value_heads,
      headSize: text.head_dim,
      epsilon: text.rms_norm_eps,
      tiesEmbeddings: ties,
      hasQueryKeyValueBias: false,
      hasQueryKeyNorm: false,
      normsArePlusOne: true,
      activation: "GeluTanh",
      embeddingScale: Math.sqrt(text.hidden_size),
      ...(text.model_type === "gemma2" ? secondGemma(text) : {}),
    },
    rotary: plainRotary(rope.rope_theta ?? text.rope_theta ?? 10_000, text.head_dim),
    contextWindow: text.max_position_embeddings,
    tiesEmbeddings: undefined,
  };
}

/** What Gemma 2 has that Gemma has not; every other layer has a window, the first one included. */
function secondGemma(text: z.output<typeof GemmaFile>): Partial<DecoderConfig> {
  const layers = Array.from({ length: text.num_hidden_layers }, (_, index) => index).filter((index) =>
    text.layer_types ? text.layer_types[index] === "sliding_attention" : index % 2 === 0,
  );
  return {
    hasBranchNorms: true,
    attentionScale: text.query_pre_attn_scalar ** -0.5,
    ...(text.attn_logit_softcapping === null ? {} : { attentionCap: text.attn_logit_softcapping }),
    ...(text.final_logit_softcapping === null ? {} : { logitCap: text.final_logit_softcapping }),
    ...(text.sliding_window === null ? {} : { sliding: { window: text.sliding_window, layers: new Set(layers) } }),
  };
}
