import type { Architecture, TextDecoder } from "./architecture.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { BoxConvention, ModelFacts } from "./model-facts.ts";

/** What one family's reader finds. */
export interface Reading {
  readonly family: ModelFacts["family"];
  readonly boxConvention: BoxConvention;
  /** Where it is not what `text_config` says. */
  readonly contextWindow?: number;
  /** Why the family takes no adapter; it does unless given. */
  readonly loraRefusal?: string;
  readonly architecture: Architecture;
}

/** The decoder of a model, with what its family has whatever config.json says. */
export function readDecoder(
  config: ConfigReader,
  family: { queryKeyValueBias: boolean; queryKeyNorm: boolean; isHybrid: boolean },
): TextDecoder {
  const text = config.nested("text_config", { orSelf: true });
  const hiddenSize = text.number("hidden_size");
  const heads = text.number("num_attention_heads");
  return {
    hiddenSize,
    heads,
    layers: text.number("num_hidden_layers"),
    keyValueHeads: text.number("num_key_value_heads"),
    headSize: text.optionalNumber("head_dim") ?? hiddenSize / heads,
    intermediateSize: text.number("intermediate_size"),
    vocabularySize: text.number("vocab_size"),
    tiedEmbeddings:
      config.optionalBoolean("tie_word_embeddings") ?? text.optionalBoolean("tie_word_embeddings") ?? false,
    queryKeyValueBias: family.queryKeyValueBias,
    queryKeyNorm: family.queryKeyNorm,
    outputGate: family.isHybrid,
    linearAttention: !family.isHybrid
      ? null
      : {
          fullAttentionInterval: text.optionalNumber("full_attention_interval") ?? 4,
          keyHeads: text.number("linear_num_key_heads"),
          keyHeadSize: text.number("linear_key_head_dim"),
          valueHeads: text.number("linear_num_value_heads"),
          valueHeadSize: text.number("linear_value_head_dim"),
          convolutionKernel: text.number("linear_conv_kernel_dim"),
        },
  };
}

/** Positions of a decoder, no more than its sliding window where it has one: rows are kept as short as that. */
export function readContextWindow(text: ConfigReader): number {
  const slides = text.optionalBoolean("use_sliding_window") ?? text.optionalText("model_type") === "mistral";
  const window = (slides ? text.optionalNumber("sliding_window") : undefined) ?? Number.POSITIVE_INFINITY;
  return Math.min(text.number("max_position_embeddings"), window);
}
