/*
 * drydock-tiny-vl: the smallest Qwen3-VL that can learn to look. Every choice below buys speed on two processor cores:
 * patches of 8 pixels merged 2×2, so a 64×64 picture is 64 patches and 16 visual tokens; one DeepStack tap; a
 * vocabulary of 1,024 in which most names and coordinates are one token; tied embeddings.
 */

export const tinyModelName = "drydock-tiny-vl";

/** Special tokens, in the order of their ids behind bytes and merges. Names as in Qwen3-VL, so that its tools know them. */
export const specialTokens = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|image_pad|>",
] as const;

/** Pieces of the answer to a grounding question that never change: a token each, which halves the length of such answers. */
export const jsonTokens = ['[{"bbox_2d": [', '], "label": "', '"}]', ", "] as const;

export const vocabularySize = 1024;

/** `config.json` for a vocabulary whose special tokens start at `firstSpecialId`. */
export function tinyConfig(firstSpecialId: number): Record<string, unknown> {
  const idOf = (token: (typeof specialTokens)[number]): number => firstSpecialId + specialTokens.indexOf(token);
  return {
    architectures: ["Qwen3VLForConditionalGeneration"],
    model_type: "qwen3_vl",
    dtype: "float32",
    tie_word_embeddings: true,
    image_token_id: idOf("<|image_pad|>"),
    // Videos are not supported; transformers wants an id all the same.
    video_token_id: idOf("<|endoftext|>"),
    vision_start_token_id: idOf("<|vision_start|>"),
    vision_end_token_id: idOf("<|vision_end|>"),
    text_config: {
      model_type: "qwen3_vl_text",
      dtype: "float32",
      vocab_size: vocabularySize,
      hidden_size: 128,
      intermediate_size: 256,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 32,
      hidden_act: "silu",
      attention_bias: false,
      attention_dropout: 0,
      rms_norm_eps: 1e-6,
      max_position_embeddings: 4096,
      rope_parameters: { rope_type: "default", rope_theta: 10000, mrope_section: [8, 4, 4], mrope_interleaved: true },
      tie_word_embeddings: true,
      bos_token_id: null,
      eos_token_id: idOf("<|im_end|>"),
      pad_token_id: idOf("<|endoftext|>"),
      use_cache: true,
    },
    vision_config: {
      model_type: "qwen3_vl_vision",
      dtype: "float32",
      depth: 4,
      hidden_size: 96,
      intermediate_size: 288,
      num_heads: 3,
      in_channels: 3,
      patch_size: 8,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
      num_position_embeddings: 64,
      deepstack_visual_indexes: [1],
      out_hidden_size: 128,
      hidden_act: "gelu_pytorch_tanh",
    },
  };
}

/** `preprocessor_config.json`: pictures of 64×64 to 256×256 pixels after the resize. */
export const preprocessorConfig = {
  image_processor_type: "Qwen2VLImageProcessorFast",
  processor_class: "Qwen3VLProcessor",
  patch_size: 8,
  merge_size: 2,
  temporal_patch_size: 2,
  min_pixels: 64 * 64,
  max_pixels: 256 * 256,
  size: { shortest_edge: 64 * 64, longest_edge: 256 * 256 },
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
  resample: 3,
};

/** ChatML: a header, the content, `<|im_end|>`; a picture is its three marks. No system turn unless one is given. */
export const chatTemplate = `{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}
{{ message.content }}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == "image" or part.type == "image_url" -%}
<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == "text" -%}
{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
`;
