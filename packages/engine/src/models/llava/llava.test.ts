import { describe, expect, test } from "vitest";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";
import { readPlainText } from "../parts/plain-text-config.ts";

const vision = {
  model_type: "clip_vision_model",
  hidden_size: 8,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  intermediate_size: 12,
  image_size: 8,
  patch_size: 2,
};
const text = {
  model_type: "llama",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 64,
};
const config = { model_type: "llava", image_token_index: 3, text_config: text, vision_config: vision };

test("what the published file of LLaVA-1.5-7B leaves out is that of the class which it names", () => {
  const published = { model_type: "llama", max_position_embeddings: 4096, rms_norm_eps: 1e-5, vocab_size: 32_064 };
  const model = openModel({ ...config, text_config: published });
  expect(model).toMatchObject({ contextWindow: 4096, vocabularySize: 32_064 });
  const { shapes } = wholeForward(model).variables;
  expect(shapes.get("model.language_model.layers.31.mlp.down_proj.weight")).toEqual([4096, 11_008]);
  expect(shapes.get("model.language_model.layers.31.self_attn.k_proj.weight")).toEqual([4096, 4096]);
});

test("a decoder with a sliding window takes rows no longer than it", () => {
  const mistral = { ...text, model_type: "mistral", sliding_window: 48 };
  expect(openModel({ ...config, text_config: mistral }).contextWindow).toBe(48);
});

test("positions of a Llama 3.1 decoder are stretched", () => {
  const rope = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };
  const own = { ...text, num_key_value_heads: 2 };
  const plain = readPlainText("text_config", own, () => false).rotary.frequencies;
  const stretched = readPlainText("text_config", { ...own, rope_scaling: rope }, () => false).rotary.frequencies;
  expect(stretched.at(-1)).toBeCloseTo((plain.at(-1) as number) / 8, 8);
  expect(stretched[0]).toBe(plain[0]);
});

test("files of before transformers 5 have a further level in the names of the tower", () => {
  const names = openModel(config).storedNames("model.vision_tower.encoder.layers.0.self_attn.q_proj.weight");
  expect(names).toContain("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight");
  expect(names).toContain("vision_tower.encoder.layers.0.self_attn.q_proj.weight");
});

test.each([
  ["vision_tower.vision_model.post_layernorm.weight", true],
  ["vision_tower.encoder.layers.2.mlp.fc1.weight", true],
  ["vision_tower.encoder.layers.1.mlp.fc1.weight", false],
  ["vision_tower.vision_model.embeddings.position_ids", true],
  ["language_model.model.layers.0.self_attn.rotary_emb.inv_freq", true],
  ["language_model.model.layers.0.self_attn.q_proj.weight", false],
  ["image_newline", false],
])("that the model does not read %s is %s", (name, isUnused) => {
  expect(openModel(config).isUnused(name)).toBe(isUnused);
});

describe("a config.json is refused that", () => {
  test.each([
    [
      "has another tower",
      { ...config, vision_config: { ...vision, model_type: "siglip_vision_model" } },
      /vision_config\.model_type: only the tower of CLIP is run/,
    ],
    [
      "joins several states of the tower",
      { ...config, vision_feature_layer: [-2, -1] },
      /vision_feature_layer \[-2, -1\] names several states/,
    ],
    [
      "chooses features in another way",
      { ...config, vision_feature_select_strategy: "cls" },
      /vision_feature_select_strategy/,
    ],
    ["names no picture token", { ...config, image_token_index: undefined }, /image_token_index is missing/],
    [
      "has a picture that patches do not fill",
      { ...config, vision_config: { ...vision, image_size: 9 } },
      /image_size 9 is no multiple of patch_size 2/,
    ],
    [
      "has another decoder",
      { ...config, text_config: { ...text, model_type: "phi" } },
      /text_config\.model_type is "phi"/,
    ],
    [
      "has biases that are not run",
      { ...config, text_config: { ...text, attention_bias: true } },
      /text_config\.attention_bias is true/,
    ],
  ])("%s", (_what, given, message) => {
    expect(() => openModel(given)).toThrow(message);
  });
});
