import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRandomModel, trainByteLevelBpe } from "@drydock/engine";
import sharp from "sharp";

const specialTokens = [
  "<|endoftext|>",
  "<|im_start|>",
  "<|im_end|>",
  "<|vision_start|>",
  "<|vision_end|>",
  "<|image_pad|>",
];
const vocabularySize = 320;

const chatTemplate = `{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}{%- if message.content is string %}{{- message.content }}{%- else %}{%- for part in message.content %}{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}`;

const sizes = {
  text: {
    vocab_size: vocabularySize,
    hidden_size: 32,
    intermediate_size: 48,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    rope_theta: 10_000,
    rope_scaling: { mrope_section: [4, 2, 2] },
    max_position_embeddings: 512,
  },
  vision: {
    hidden_size: 32,
    intermediate_size: 48,
    num_heads: 2,
    patch_size: 8,
    spatial_merge_size: 2,
    out_hidden_size: 32,
    num_position_embeddings: 16,
  },
};

/** Writes a Qwen3-VL of about 50,000 random parameters with a tokenizer: small enough that a training step takes milliseconds. */
export async function createTinyModel(directory: string, seed = 1, layers = 2): Promise<void> {
  await mkdir(directory, { recursive: true });
  const tokenizer = trainByteLevelBpe(
    ["a red circle and a blue square, two green stars"],
    vocabularySize,
    specialTokens,
  ) as { added_tokens: { id: number; content: string }[] };
  const imageTokenId = tokenizer.added_tokens.find(({ content }) => content === "<|image_pad|>")?.id;
  await writeFile(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
  await writeFile(
    join(directory, "tokenizer_config.json"),
    JSON.stringify({
      tokenizer_class: "PreTrainedTokenizerFast",
      chat_template: chatTemplate,
      eos_token: "<|im_end|>",
    }),
  );
  await writeFile(
    join(directory, "preprocessor_config.json"),
    JSON.stringify({ patch_size: 8, merge_size: 2, temporal_patch_size: 2, min_pixels: 256, max_pixels: 4096 }),
  );
  await createRandomModel(
    {
      model_type: "qwen3_vl",
      architectures: ["Qwen3VLForConditionalGeneration"],
      text_config: { ...sizes.text, num_hidden_layers: layers },
      vision_config: {
        ...sizes.vision,
        depth: layers,
        // Of a deeper tower every block's features reach a decoder layer.
        deepstack_visual_indexes: layers === 2 ? [0] : Array.from({ length: layers }, (_, index) => index),
      },
      image_token_id: imageTokenId,
      tie_word_embeddings: true,
    },
    directory,
    seed,
  );
}

/** Writes `rows` one-colour pictures and a JSONL of questions about them; answers its path. */
export async function createTinyData(directory: string, rows: number): Promise<string> {
  await mkdir(directory, { recursive: true });
  const colours = ["red", "green", "blue"];
  const lines: string[] = [];
  for (let row = 0; row < rows; row++) {
    const colour = colours[row % colours.length] ?? "red";
    await sharp({ create: { width: 16 + 16 * (row % 2), height: 16, channels: 3, background: colour } })
      .png()
      .toFile(join(directory, `${row}.png`));
    const question = {
      role: "user",
      content: [
        { type: "image", image: `${row}.png` },
        { type: "text", text: "Which colour?" },
      ],
    };
    lines.push(JSON.stringify({ messages: [question, { role: "assistant", content: colour }] }));
  }
  const path = join(directory, "data.jsonl");
  await writeFile(path, lines.map((line) => `${line}\n`).join(""));
  return path;
}
