import { expect, test } from "vitest";
import { topologicalOrder } from "../graph/topological-order.ts";
import { openModel } from "../models/families.ts";
import { trainingGraph } from "./training-graph.ts";

const model = openModel({
  model_type: "qwen3_vl",
  image_token_id: 3,
  tie_word_embeddings: true,
  text_config: {
    vocab_size: 32,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    rope_parameters: { rope_theta: 10000, mrope_section: [2, 1, 1] },
  },
  vision_config: {
    depth: 1,
    hidden_size: 16,
    intermediate_size: 24,
    num_heads: 2,
    patch_size: 4,
    out_hidden_size: 16,
    num_position_embeddings: 16,
  },
});

test("rows of looked-up tables leave the graph as rows: ONNX Runtime would lose some of those that meet", () => {
  const { outputs, rowGradients } = trainingGraph(model, true, () => true, null);
  expect(rowGradients).toEqual([
    { name: "model.visual.pos_embed.weight", output: "rows:0:model.visual.pos_embed.weight", indices: "position-taps" },
    {
      name: "model.language_model.embed_tokens.weight",
      output: "rows:0:model.language_model.embed_tokens.weight",
      indices: "ids",
    },
  ]);
  expect(outputs["gradient:model.visual.pos_embed.weight"]).toBeUndefined();
  expect(outputs["gradient:model.language_model.embed_tokens.weight"]?.op).toBe("Gemm"); // from the tied head
  const scattered = topologicalOrder(Object.values(outputs)).filter(({ op }) => op === "AddRows");
  expect(scattered.map(({ inputs }) => inputs[1]?.attributes["name"])).toEqual(["rows", "feature-rows"]); // each names a row once
});

test("a graph that adds gives every product the sum to add to", () => {
  const { outputs } = trainingGraph(model, false, () => true, null, true);
  const name = "model.language_model.layers.0.mlp.down_proj.weight";
  const node = outputs[`gradient:${name}`];
  expect(node?.op).toBe("Gemm");
  expect(node?.inputs[2]?.attributes["name"]).toBe(`sum:${name}`);
});
