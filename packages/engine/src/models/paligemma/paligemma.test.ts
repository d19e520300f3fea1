import { describe, expect, test } from "vitest";
import { collate } from "../../batch/collate.ts";
import type { EncodedRow } from "../../batch/encoded-row.ts";
import { ChatTemplate, partsOf, type ChatMessage } from "../../text/chat-template.ts";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";
import { paliGemmaTemplate } from "./chat-template.ts";
import { parsePaliGemmaConfig } from "./config.ts";
import { prefixReach } from "./prefix-reach.ts";

const vision = {
  hidden_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 12,
  image_size: 4,
  patch_size: 2,
};
const text = {
  model_type: "gemma",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 8,
  max_position_embeddings: 64,
};
const config = { model_type: "paligemma", image_token_index: 3, text_config: text, vision_config: vision };

test("what the published file of PaliGemma-3B leaves out is that of the classes which it names", () => {
  const model = openModel({
    ...config,
    text_config: {
      model_type: "gemma",
      hidden_size: 2048,
      num_hidden_layers: 18,
      num_attention_heads: 8,
      num_key_value_heads: 1,
      intermediate_size: 16_384,
      vocab_size: 257_216,
    },
    vision_config: {
      model_type: "siglip_vision_model",
      hidden_size: 1152,
      num_hidden_layers: 27,
      num_attention_heads: 16,
      intermediate_size: 4304,
      patch_size: 14,
    },
  });
  expect(model).toMatchObject({ contextWindow: 8192, vocabularySize: 257_216 });
  const { shapes } = wholeForward(model).variables;
  expect(shapes.get("model.language_model.layers.17.self_attn.q_proj.weight")).toEqual([2048, 2048]);
  expect(shapes.get("model.vision_tower.embeddings.position_embedding.weight")).toEqual([256, 1152]);
});

describe("a config.json is refused that", () => {
  test.each([
    ["has another decoder", { ...config, text_config: { ...text, model_type: "llama" } }, /text_config\.model_type/],
    [
      "has another tower",
      { ...config, vision_config: { ...vision, model_type: "clip_vision_model" } },
      /only the tower of SigLIP is run/,
    ],
    ["names no picture token", { ...config, image_token_index: undefined }, /image_token_index is missing/],
    [
      "gives pictures another width than text",
      { ...config, projection_dim: 8 },
      /projection_dim 8 is not text_config\.hidden_size 16/,
    ],
    [
      "has another activation",
      { ...config, text_config: { ...text, hidden_activation: "silu" } },
      /text_config\.hidden_activation/,
    ],
    [
      "stretches positions",
      { ...config, text_config: { ...text, rope_scaling: { rope_type: "linear", factor: 2 } } },
      /only plain rotary positions/,
    ],
    [
      "has a picture less than a patch",
      { ...config, vision_config: { ...vision, image_size: 1 } },
      /image_size 1 is less than patch_size 2/,
    ],
    [
      "has heads that do not fit",
      { ...config, vision_config: { ...vision, num_attention_heads: 3 } },
      /does not divide by num_attention_heads 3/,
    ],
  ])("%s", (_what, given, message) => {
    expect(() => openModel(given)).toThrow(message);
    expect(() => openModel(given)).toThrow(/^config\.json: /);
  });
});

test("the processor's file must make what the tower takes", () => {
  expect(() => openModel(config).imageProcessor({ size: { height: 8, width: 8 } }, {})).toThrow(
    /^preprocessor_config\.json: size is 8 by 8, but config\.json says that the model's tower takes 4 by 4/,
  );
});

describe("how far queries see", () => {
  const row = (inputIds: number[], labels: number[]): EncodedRow => ({
    name: "row",
    inputIds,
    labels,
    images: [],
    imagePositions: [],
  });
  const model = openModel(config);
  const reach = (rows: readonly EncodedRow[]): number[] => [...prefixReach(collate(rows, model))];

  test("to the end of the prompt within it, to themselves in the answer", () => {
    expect(reach([row([5, 6, 7, 8, 9], [-100, -100, 8, 9, -100])])).toEqual([2, 2, 2, 3, 4]);
  });

  test("to the end of the row where nothing is labelled, padding left out", () => {
    expect(reach([row([5, 6, 7], [-100, -100, -100]), row([5, 6, 7, 8], [6, 7, 8, -100])])).toEqual([
      2, 2, 2, 3, 0, 1, 2, 3,
    ]);
  });
});

test("image tokens that do not match the pictures are refused", () => {
  const model = openModel(config);
  const row: EncodedRow = {
    name: "row",
    inputIds: [3, 3, 5],
    labels: [-100, -100, -100],
    images: [
      {
        patches: new Float32Array(4 * 12),
        grid: { time: 1, height: 2, width: 2 },
        tokens: 4,
        resized: { width: 4, height: 4 },
      },
    ],
    imagePositions: [[0, 1]],
  };
  expect(() => model.feeds(collate([row], model))).toThrow(/2 image tokens but its pictures give 4/);
});

describe("Gemma 2", () => {
  const second = { ...text, model_type: "gemma2", num_hidden_layers: 4 };
  const decoderOf = (own: object) =>
    parsePaliGemmaConfig({ ...config, text_config: { ...second, ...own } }).text.decoder;

  test("has a window in every other layer, the first one included, and caps, unless its file says otherwise", () => {
    expect(decoderOf({})).toMatchObject({
      attentionScale: 1 / 16,
      attentionCap: 50,
      logitCap: 30,
      hasBranchNorms: true,
    });
    expect(decoderOf({}).sliding).toEqual({ window: 4096, layers: new Set([0, 2]) });
    const own = decoderOf({
      sliding_window: 8,
      layer_types: ["full_attention", "full_attention", "full_attention", "sliding_attention"],
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
    });
    expect(own.sliding).toEqual({ window: 8, layers: new Set([3]) });
    expect([own.attentionCap, own.logitCap]).toEqual([undefined, undefined]);
  });

  test("a query of the answer sees a window of keys, one of the prompt the whole prompt", () => {
    const row: EncodedRow = {
      name: "row",
      inputIds: [5, 6, 7, 8, 9, 10],
      labels: [-100, -100, -100, 9, 10, -100],
      images: [],
      imagePositions: [],
    };
    const model = openModel({ ...config, text_config: { ...second, sliding_window: 2 } });
    const batch = collate([row], model);
    expect(Array.from(model.feeds(batch)["floor"]?.data as Float32Array)).toEqual([0, 0, 0, 0, 3, 4]);
    const { feeds } = model.step(batch, new Int32Array([8, 8, 8]), 8);
    expect(Array.from(feeds["floor"]?.data as Float32Array)).toEqual([6]);
    expect(Array.from(feeds["order"]?.data as Float32Array)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
});

describe("the template", () => {
  const template = new ChatTemplate(paliGemmaTemplate, { bos_token: "<bos>" });
  const turn = (role: ChatMessage["role"], content: string): ChatMessage => ({ role, content: partsOf(content) });

  test.each([
    ["a question about a picture", [turn("user", "<image>What?")], "<image><bos>What?\n"],
    ["two pictures with text between", [turn("user", "<image>one<image>two")], "<image>one<image><bos>two\n"],
    ["no picture", [turn("user", "What?")], "<bos>What?\n"],
    ["a system message", [turn("system", "Look."), turn("user", "<image>What?")], "Look.\n<image><bos>What?\n"],
  ])("writes %s", (_what, messages, written) => {
    expect(template.render(messages, true)).toBe(written);
  });

  test("refuses a second question", () => {
    expect(() => template.render([turn("user", "a"), turn("assistant", "b"), turn("user", "c")], true)).toThrow(
      /the chat template refuses this conversation: PaliGemma takes one question/,
    );
  });
});
