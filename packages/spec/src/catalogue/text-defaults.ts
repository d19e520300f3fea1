/** Keys of a decoder's configuration that published files may leave out where they equal the class's own. */
const classDefaults: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  gemma: {
    hidden_size: 3072,
    intermediate_size: 24_576,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 16,
    head_dim: 256,
    vocab_size: 256_000,
    max_position_embeddings: 8192,
    rope_theta: 10_000,
  },
  gemma2: {
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: 4,
    head_dim: 256,
    vocab_size: 256_000,
    max_position_embeddings: 8192,
    rope_theta: 10_000,
  },
  llama: {
    hidden_size: 4096,
    intermediate_size: 11_008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    vocab_size: 32_000,
    max_position_embeddings: 2048,
    rope_theta: 10_000,
  },
  mllama_text_model: {
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 40,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 128_256,
    max_position_embeddings: 131_072,
    rope_theta: 500_000,
    cross_attention_layers: [3, 8, 13, 18, 23, 28, 33, 38],
  },
  mistral: {
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    vocab_size: 32_000,
    max_position_embeddings: 131_072,
    sliding_window: 4096,
    rope_theta: 10_000,
  },
  qwen2: {
    hidden_size: 4096,
    intermediate_size: 22_016,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    vocab_size: 151_936,
    max_position_embeddings: 32_768,
    rope_theta: 10_000,
  },
};

/**
 * A `text_config` with what its file leaves out: those of LLaVA-1.5 and PaliGemma name the model type and what differs
 * from the class, so that the sizes of the 7B models stand in no file. What is no object, or of another type, is answered as
 * it is.
 *
 * @param usual  model type where the file names none
 *
 * Source: `LlamaConfig`, `MistralConfig`, `Qwen2Config`, `GemmaConfig`, `Gemma2Config`, `MllamaTextConfig` of huggingface/transformers 5.23.
 */
export function withTextDefaults(text: unknown, usual: keyof typeof classDefaults = "llama"): unknown {
  if (text === undefined) return withTextDefaults({}, usual);
  if (typeof text !== "object" || text === null || Array.isArray(text)) return text;
  const type = "model_type" in text ? text.model_type : usual;
  const defaults = typeof type === "string" && Object.hasOwn(classDefaults, type) ? classDefaults[type] : {};
  const filled: Record<string, unknown> = { model_type: type, ...defaults, ...text };
  // As many key heads as query heads, whichever number the file has.
  filled["num_key_value_heads"] ??= filled["num_attention_heads"];
  return filled;
}
