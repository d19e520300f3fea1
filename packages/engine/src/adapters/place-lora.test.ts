import { expect, test } from "vitest";
import { openModel } from "../models/families.ts";
import type { LoraOptions } from "./lora-options.ts";
import { placeLora } from "./place-lora.ts";

const model = openModel({
  model_type: "qwen3_vl",
  image_token_id: 3,
  tie_word_embeddings: true,
  text_config: {
    vocab_size: 32,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
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
const place = (options: Partial<LoraOptions>) =>
  placeLora(model, { rank: 4, alpha: 8, dropout: 0, targets: "all-linear", ...options });
const paths = (options: Partial<LoraOptions>): string[] => [...place(options).modules.keys()];

test("all-linear is the language model's, with the vision part where it is asked for", () => {
  expect(paths({})).toHaveLength(14);
  expect(paths({ includeVision: true })).toHaveLength(14 + 6);
});

test("names are ends of paths behind a dot, or whole paths wherever they lie", () => {
  expect(paths({ targets: ["q_proj"] })).toHaveLength(2);
  expect(paths({ targets: ["layers.1.self_attn.q_proj"] })).toHaveLength(1);
  expect(paths({ targets: ["model.visual.blocks.0.attn.qkv"] })).toEqual(["model.visual.blocks.0.attn.qkv"]);
  expect(paths({ targets: ["q_proj", "k_proj"], exclude: ["layers.0.self_attn.q_proj"] })).toHaveLength(3);
});

test("scales are alpha over the rank, or over its root", () => {
  expect([...place({}).modules.values()][0]).toEqual({ rank: 4, scale: 2 });
  expect([...place({ useRslora: true }).modules.values()][0]).toEqual({ rank: 4, scale: 4 });
});

test.each<[Partial<LoraOptions>, string]>([
  [
    { targets: ["q_projection"] },
    'training.lora.targets: the language model has no linear layer "q_projection"; it has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj',
  ],
  [{ targets: ["qkv"] }, "the vision part has one: set training.lora.includeVision"],
  [{ targets: "nothing.*" }, 'no linear layer matches the regular expression "nothing.*"; layers are named like'],
  [{ targets: "(" }, 'training.lora.targets: "(" is no regular expression'],
  [{ modulesToSave: ["bridge"] }, 'training.lora.modulesToSave: the model has no weights of a module "bridge"'],
  [{ modulesToSave: ["lm_head"] }, "its output layer is its embedding, which embed_tokens names"],
  [{ modulesToSave: ["mlp"] }, "would be trained whole (modulesToSave) and by an adapter (targets)"],
])("%o is refused, and says what there is", (options, message) => {
  expect(() => place(options)).toThrow(message);
});
