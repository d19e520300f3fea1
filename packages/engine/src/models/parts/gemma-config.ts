/*
 * Configurations of Gemma decoders as parts of vision-language models, old and new spelling of the rotary keys.
 * Source: `GemmaConfig` of huggingface/transformers 5.23.
 */
import { withTextDefaults } from "@drydock/spec";
import { z } from "zod";
import { badConfig, readConfigFile } from "./config-file.ts";
import type { PlainText } from "./plain-text-config.ts";
import { plainRotary } from "./text-inputs.ts";

const Rope = z.looseObject({
  rope_type: z.literal("default", "only plain rotary positions are run").optional(),
  rope_theta: z.number().optional(),
});

const GemmaFile = z.looseObject({
  model_type: z.literal("gemma", "only Gemma decoders are run"),
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
    },
    rotary: plainRotary(rope.rope_theta ?? text.rope_theta ?? 10_000, text.head_dim),
    contextWindow: text.max_position_embeddings,
    tiesEmbeddings: undefined,
  };
}
