import type { ModelBatch } from "../src/batch/model-batch.ts";
import { gridPositions } from "../src/models/parts/grid-positions.ts";
import { SeededRandom } from "../src/training/random.ts";

/** A model of both towers, small enough for a test. */
export const tinyVisionConfig = {
  model_type: "qwen3_vl",
  image_token_id: 3,
  tie_word_embeddings: true,
  text_config: {
    vocab_size: 50,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    rope_parameters: { rope_theta: 10000, mrope_section: [2, 1, 1] },
  },
  vision_config: {
    depth: 2,
    hidden_size: 16,
    intermediate_size: 24,
    num_heads: 2,
    patch_size: 4,
    out_hidden_size: 16,
    num_position_embeddings: 16,
    deepstack_visual_indexes: [0],
  },
};

/** Two rows of 17 tokens, a picture of 6 × 4 patches in the first, the second with padding at its end. */
export function twoRows(): ModelBatch {
  const random = new SeededRandom("long");
  const tokens = 17;
  const grid = { time: 1, height: 6, width: 4 };
  const visible = 6;
  const inputIds = BigInt64Array.from({ length: 2 * tokens }, (_, at) =>
    at >= 1 && at <= visible ? 3n : BigInt(5 + Math.floor(random.uniform() * 45)),
  );
  const patches = Float32Array.from({ length: 24 * 96 }, () => random.normal());
  const first = gridPositions(
    {
      inputIds: Array.from({ length: tokens }, () => 0),
      images: [{ grid, tokens: visible, patches, resized: { width: 16, height: 24 } }],
      imagePositions: [Array.from({ length: visible }, (_, at) => 1 + at)],
    },
    2,
  );
  return {
    batchSize: 2,
    sequenceLength: tokens,
    inputIds,
    attentionMask: Uint8Array.from({ length: 2 * tokens }, (_, at) => (at < tokens + 12 ? 1 : 0)),
    positionIds: Int32Array.from(first.flatMap((axis) => [...axis, ...Array.from({ length: tokens }, (_, at) => at)])),
    labels: Int32Array.from(inputIds, (id, at) => (at % tokens > 8 && at < tokens + 12 ? Number(id) : -100)),
    pixelPatches: patches,
    pictures: [{ grid, tokens: visible, row: 0 }],
    imageRows: Int32Array.from({ length: visible }, (_, at) => 1 + at),
  };
}
