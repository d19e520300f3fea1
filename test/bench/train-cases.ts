import { join } from "node:path";
import { SeededRandom, createRandomModel, gridPositions, writeSafetensors } from "@drydock/engine";

/** A model and a batch of the training benchmark. Random weights, random tokens: only the sizes matter. */
export interface TrainCase {
  readonly name: string;
  readonly text: { readonly width: number; readonly layers: number; readonly vocabulary: number };
  readonly vision: { readonly width: number; readonly depth: number; readonly patch: number };
  readonly pixels: number;
  readonly rows: number;
  readonly textTokens: number;
}

export const trainCases: readonly TrainCase[] = [
  {
    name: "1.8M",
    text: { width: 128, layers: 4, vocabulary: 512 },
    vision: { width: 96, depth: 3, patch: 8 },
    pixels: 64,
    rows: 32,
    textTokens: 14,
  },
  {
    name: "24M",
    text: { width: 384, layers: 8, vocabulary: 8192 },
    vision: { width: 256, depth: 6, patch: 16 },
    pixels: 224,
    rows: 8,
    textTokens: 47,
  },
  {
    name: "129M",
    text: { width: 768, layers: 12, vocabulary: 32000 },
    vision: { width: 384, depth: 12, patch: 16 },
    pixels: 224,
    rows: 4,
    textTokens: 79,
  },
];

const imageToken = 3;
const mergeSize = 2;

/** Writes the model folder and `batch.safetensors`, named as the reference's forward call names its arguments. */
export async function writeTrainCase(bench: TrainCase, directory: string): Promise<{ model: string; batch: string }> {
  const model = join(directory, "model");
  await createRandomModel(configOf(bench), model, 1);
  const batch = join(directory, "batch.safetensors");
  await writeBatch(bench, batch);
  return { model, batch };
}

export function configOf({ text, vision }: TrainCase): unknown {
  const headSize = 32;
  return {
    model_type: "qwen3_vl",
    architectures: ["Qwen3VLForConditionalGeneration"],
    image_token_id: imageToken,
    video_token_id: 4,
    vision_start_token_id: 1,
    vision_end_token_id: 2,
    tie_word_embeddings: true,
    text_config: {
      model_type: "qwen3_vl_text",
      vocab_size: text.vocabulary,
      hidden_size: text.width,
      intermediate_size: 3 * text.width,
      num_hidden_layers: text.layers,
      num_attention_heads: text.width / headSize,
      num_key_value_heads: text.width / headSize / 2,
      head_dim: headSize,
      rms_norm_eps: 1e-6,
      max_position_embeddings: 4096,
      tie_word_embeddings: true,
      rope_parameters: { rope_type: "default", rope_theta: 10000, mrope_section: [8, 4, 4], mrope_interleaved: true },
    },
    vision_config: {
      model_type: "qwen3_vl",
      depth: vision.depth,
      hidden_size: vision.width,
      intermediate_size: 4 * vision.width,
      num_heads: vision.width / headSize,
      in_channels: 3,
      patch_size: vision.patch,
      spatial_merge_size: mergeSize,
      temporal_patch_size: 2,
      out_hidden_size: text.width,
      num_position_embeddings: 256,
      deepstack_visual_indexes: [0, 1],
    },
  };
}

/** Each row: a picture, then text; the second half of the text is the answer. */
export async function writeBatch({ text, vision, pixels, rows, textTokens }: TrainCase, path: string): Promise<void> {
  const random = new SeededRandom(7);
  const side = pixels / vision.patch;
  const visible = (side / mergeSize) ** 2;
  const tokens = visible + textTokens;
  const ids = new BigInt64Array(rows * tokens);
  const labels = new BigInt64Array(rows * tokens).fill(-100n);
  for (let index = 0; index < ids.length; index++) {
    const position = index % tokens;
    const isPicture = position >= 1 && position <= visible;
    ids[index] = isPicture ? BigInt(imageToken) : BigInt(5 + Math.floor(random.uniform() * (text.vocabulary - 5)));
    if (position >= tokens - textTokens / 2) labels[index] = ids[index] as bigint;
  }
  const patchWidth = 3 * 2 * vision.patch ** 2;
  const patches = Float32Array.from({ length: rows * side * side * patchWidth }, () => random.normal());
  const ones = new BigInt64Array(rows * tokens).fill(1n);
  const kinds = ids.map((id) => (id === BigInt(imageToken) ? 1n : 0n));
  const row = {
    inputIds: Array.from({ length: tokens }, () => 0),
    images: [
      {
        grid: { time: 1, height: side, width: side },
        tokens: visible,
        patches,
        resized: { width: pixels, height: pixels },
      },
    ],
    imagePositions: [Array.from({ length: visible }, (_, token) => 1 + token)],
  };
  const positions = gridPositions(row, mergeSize);
  const shape = [rows, tokens];
  await writeSafetensors(path, [
    { name: "input_ids", shape, data: ids },
    { name: "attention_mask", shape, data: ones },
    { name: "labels", shape, data: labels },
    { name: "mm_token_type_ids", shape, data: kinds },
    {
      name: "position_ids",
      shape: [3, rows, tokens],
      data: BigInt64Array.from(
        positions.flatMap((axis) => Array.from({ length: rows }, () => axis).flat()),
        BigInt,
      ),
    },
    { name: "pixel_values", shape: [rows * side * side, patchWidth], data: patches },
    {
      name: "image_grid_thw",
      shape: [rows, 3],
      data: BigInt64Array.from({ length: rows * 3 }, (_, index) => (index % 3 === 0 ? 1n : BigInt(side))),
    },
  ]);
}
