import { expect, test } from "vitest";
import { findModel } from "./catalogue.ts";
import { drydockTinyVl } from "./drydock-tiny-vl.ts";
import { modelFactsFromConfig } from "./from-config.ts";
import { countParameters } from "./parameters.ts";

const qwen3Vl4b = {
  model_type: "qwen3_vl",
  tie_word_embeddings: true,
  text_config: {
    hidden_size: 2560,
    num_hidden_layers: 36,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    intermediate_size: 9728,
    vocab_size: 151_936,
    max_position_embeddings: 262_144,
  },
  vision_config: {
    depth: 24,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_heads: 16,
    patch_size: 16,
    spatial_merge_size: 2,
    num_position_embeddings: 2304,
    out_hidden_size: 2560,
    deepstack_visual_indexes: [5, 11, 17],
  },
};

const qwen25Vl3b = {
  model_type: "qwen2_5_vl",
  hidden_size: 2048,
  num_hidden_layers: 36,
  num_attention_heads: 16,
  num_key_value_heads: 2,
  intermediate_size: 11_008,
  vocab_size: 151_936,
  tie_word_embeddings: true,
  max_position_embeddings: 128_000,
  vision_config: {
    depth: 32,
    hidden_size: 1280,
    intermediate_size: 3420,
    num_heads: 16,
    patch_size: 14,
    spatial_merge_size: 2,
    out_hidden_size: 2048,
  },
};

const qwen35_4b = {
  model_type: "qwen3_5",
  tie_word_embeddings: true,
  text_config: {
    hidden_size: 2560,
    num_hidden_layers: 32,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    head_dim: 256,
    intermediate_size: 9216,
    vocab_size: 248_320,
    max_position_embeddings: 262_144,
    full_attention_interval: 4,
    linear_num_key_heads: 16,
    linear_key_head_dim: 128,
    linear_num_value_heads: 32,
    linear_value_head_dim: 128,
    linear_conv_kernel_dim: 4,
  },
  vision_config: {
    depth: 24,
    hidden_size: 1024,
    intermediate_size: 4096,
    num_heads: 16,
    patch_size: 16,
    spatial_merge_size: 2,
    num_position_embeddings: 2304,
    out_hidden_size: 2560,
  },
};

const internVl35_8b = {
  model_type: "internvl",
  tie_word_embeddings: false,
  downsample_ratio: 0.5,
  text_config: {
    hidden_size: 4096,
    num_hidden_layers: 36,
    num_attention_heads: 32,
    num_key_value_heads: 8,
    head_dim: 128,
    intermediate_size: 12_288,
    vocab_size: 151_936,
    max_position_embeddings: 40_960,
  },
  vision_config: {
    hidden_size: 1024,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    intermediate_size: 4096,
    image_size: [448, 448],
    patch_size: [14, 14],
    attention_bias: true,
  },
};

/** The same model in the form with code of its own. */
const internVlChat = {
  model_type: "internvl_chat",
  downsample_ratio: 0.5,
  dynamic_image_size: true,
  min_dynamic_patch: 1,
  max_dynamic_patch: 12,
  llm_config: { ...internVl35_8b.text_config, model_type: "qwen3", tie_word_embeddings: false },
  vision_config: {
    ...internVl35_8b.vision_config,
    image_size: 448,
    patch_size: 14,
    qkv_bias: true,
    qk_normalization: false,
    norm_type: "layer_norm",
  },
};

/** As LLaVA-1.5-7B is published: what equals the class is left out. */
const llava7b = {
  model_type: "llava",
  image_token_index: 32_000,
  text_config: { model_type: "llama", max_position_embeddings: 4096, rms_norm_eps: 1e-5, vocab_size: 32_064 },
  vision_config: {
    model_type: "clip_vision_model",
    hidden_size: 1024,
    image_size: 336,
    intermediate_size: 4096,
    num_attention_heads: 16,
    num_hidden_layers: 24,
    patch_size: 14,
  },
};

test.each([
  ["qwen3-vl-4b", qwen3Vl4b],
  ["qwen2.5-vl-3b", qwen25Vl3b],
  ["qwen3.5-4b", qwen35_4b],
  ["internvl3.5-8b", internVl35_8b],
  ["internvl3.5-8b", internVlChat],
])("the config.json of %s gives the architecture of the catalogue", (name, config) => {
  const facts = modelFactsFromConfig("mine", { config });
  expect(facts.architecture).toEqual(findModel(name)?.architecture);
  expect(facts.contextWindow).toBe(findModel(name)?.contextWindow);
  expect(facts.boxConvention).toBe(findModel(name)?.boxConvention);
});

test("LLaVA-1.5-7B has the sizes of the class that its config.json names, and the published number of parameters", () => {
  const facts = modelFactsFromConfig("mine", { config: llava7b });
  expect(facts).toMatchObject({ family: "llava", contextWindow: 4096, boxConvention: "undocumented" });
  expect(facts.architecture.text).toMatchObject({ hiddenSize: 4096, layers: 32, keyValueHeads: 32 });
  expect(facts.architecture.visualTokens).toMatchObject({ tokensPerTile: 576, maxTiles: 1, delimiterTokens: 0 });
  expect(countParameters(facts.architecture).total).toBe(7_063_427_072);
});

test("a decoder with a sliding window is given rows no longer than it", () => {
  const text_config = {
    model_type: "mistral",
    vocab_size: 32_064,
    max_position_embeddings: 32_768,
    sliding_window: 4096,
  };
  expect(modelFactsFromConfig("mine", { config: { ...llava7b, text_config } }).contextWindow).toBe(4096);
});

test("bounds on InternVL's tiles come from its preprocessor file", () => {
  const facts = modelFactsFromConfig("mine", {
    config: internVl35_8b,
    preprocessor: { min_patches: 2, max_patches: 6 },
  });
  expect(facts.architecture.visualTokens).toMatchObject({ minTiles: 2, maxTiles: 6 });
});

test("pixel bounds come from the preprocessor file, explicit keys first", () => {
  const bySize = modelFactsFromConfig("mine", {
    config: qwen3Vl4b,
    preprocessor: { size: { shortest_edge: 1024, longest_edge: 65_536 } },
  });
  expect(bySize.architecture.visualTokens).toMatchObject({ minPixels: 1024, maxPixels: 65_536 });
  const byKeys = modelFactsFromConfig("mine", {
    config: qwen3Vl4b,
    preprocessor: { min_pixels: 2048, max_pixels: 4096, size: { shortest_edge: 1, longest_edge: 2 } },
  });
  expect(byKeys.architecture.visualTokens).toMatchObject({ minPixels: 2048, maxPixels: 4096 });
});

test("the tiny model takes its sizes from its own config.json", () => {
  const config = {
    ...qwen3Vl4b,
    text_config: {
      hidden_size: 128,
      num_hidden_layers: 4,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 32,
      intermediate_size: 384,
      vocab_size: 512,
      max_position_embeddings: 1024,
    },
    vision_config: {
      depth: 3,
      hidden_size: 96,
      intermediate_size: 256,
      num_heads: 4,
      patch_size: 8,
      spatial_merge_size: 2,
      num_position_embeddings: 64,
      out_hidden_size: 128,
      deepstack_visual_indexes: [0, 1],
    },
  };
  const facts = drydockTinyVl({ config });
  expect(facts).toMatchObject({
    name: "drydock-tiny-vl",
    family: "qwen3-vl",
    contextWindow: 1024,
    modes: ["lora", "full"],
  });
  expect(countParameters(facts.architecture).total).toBeGreaterThan(1e6);
});

test.each([
  ["an unknown family is named", { model_type: "llama" }, /model_type "llama".*qwen3_vl/],
  ["a missing family is named", {}, /has no text "model_type"/],
  [
    "a missing number names file, section and field",
    { ...qwen3Vl4b, vision_config: { ...qwen3Vl4b.vision_config, depth: undefined } },
    /config\.json: vision_config has no number "depth"/,
  ],
  [
    "a wrong type is shown",
    { ...qwen3Vl4b, text_config: { ...qwen3Vl4b.text_config, hidden_size: "2560" } },
    /"hidden_size" is "2560", not a positive number/,
  ],
  ["a config that is no object is refused", [], /must be a JSON object/],
])("%s", (_name, config, message) => {
  expect(() => modelFactsFromConfig("mine", { config })).toThrow(message);
});

test.each([
  [{ quant_method: "bitsandbytes", load_in_4bit: true, bnb_4bit_quant_type: "nf4" }, "nf4"],
  [{ quant_method: "drydock", format: "int8", block_size: 64 }, "int8"],
])("weights in few bits are seen: %j", (config, storedIn) => {
  expect(modelFactsFromConfig("mine", { config: { ...qwen3Vl4b, quantization_config: config } })).toMatchObject({
    storedIn,
  });
});

test.each([
  { quant_method: "gptq", bits: 4 },
  { quant_method: "bitsandbytes", load_in_8bit: true },
])("quantization that is not read is refused with what to do: %j", (config) => {
  const folder = { config: { ...qwen3Vl4b, quantization_config: config } };
  expect(() => modelFactsFromConfig("mine", folder)).toThrow(
    /config.json of mine: quantization "(gptq|bitsandbytes)" is not one that Drydock reads.*Use the model's own weights/,
  );
});
