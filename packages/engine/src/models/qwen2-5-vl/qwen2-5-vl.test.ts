import { describe, expect, test } from "vitest";
import { collate } from "../../batch/collate.ts";
import type { EncodedRow } from "../../batch/encoded-row.ts";
import { isDecayed } from "../../training/adamw.ts";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";

const text = {
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  rms_norm_eps: 1e-6,
  rope_theta: 1e6,
  rope_scaling: { type: "mrope", mrope_section: [2, 1, 1] },
  tie_word_embeddings: true,
};
const vision = {
  depth: 2,
  hidden_size: 8,
  intermediate_size: 12,
  num_heads: 2,
  in_chans: 3,
  patch_size: 2,
  window_size: 8,
  out_hidden_size: 16,
  fullatt_block_indexes: [1],
};
/** As published: what concerns the decoder stands at the top level. */
const config = { model_type: "qwen2_5_vl", image_token_id: 3, ...text, vision_config: vision };
const nested = { model_type: "qwen2_5_vl", image_token_id: 3, text_config: text, vision_config: vision };

test("the decoder's keys may stand at the top level or in text_config, rotary keys in both spellings", () => {
  const { rope_theta, rope_scaling, ...others } = text;
  const { mrope_section } = rope_scaling;
  const anew = { ...others, rope_parameters: { rope_type: "default", rope_theta, mrope_section } };
  const shapes = [config, nested, { ...nested, text_config: anew }].map((file) => [
    ...wholeForward(openModel(file)).variables.shapes,
  ]);
  expect(shapes[1]).toEqual(shapes[0]);
  expect(shapes[2]).toEqual(shapes[0]);
});

describe("a config.json is refused that", () => {
  test.each([
    ["lacks a size", { ...config, hidden_size: undefined }, /hidden_size/],
    ["lacks a size of text_config", { ...nested, text_config: { ...text, vocab_size: undefined } }, /vocab_size/],
    [
      "has sections that do not fill a head",
      { ...config, rope_scaling: { type: "mrope", mrope_section: [2, 2, 2] } },
      /mrope_section \[2, 2, 2\] does not add up to half of the head size 8/,
    ],
    [
      "stretches positions by yarn",
      { ...config, rope_scaling: { type: "yarn", factor: 4, mrope_section: [2, 1, 1] } },
      /rotary positions of type "yarn"/,
    ],
    ["slides a window over the text", { ...config, use_sliding_window: true }, /use_sliding_window is true/],
    [
      "has windows smaller than a cell",
      { ...config, vision_config: { ...vision, window_size: 3 } },
      /vision_config\.window_size 3 is smaller than a merged cell of 4 pixels/,
    ],
    [
      "has another activation",
      { ...config, vision_config: { ...vision, hidden_act: "gelu" } },
      /vision_config\.hidden_act: only "silu" is run/,
    ],
  ])("%s", (_what, file, message) => {
    expect(() => openModel(file)).toThrow(message);
    expect(() => openModel(file)).toThrow(/^config\.json: /);
  });
});

test("weight decay reaches the tower's norms, whose names say nothing of norms, and no others", () => {
  const { variables } = wholeForward(openModel(config));
  const decayed = [...variables.shapes.keys()].filter((name) => isDecayed(name, variables.layerNorms.has(name)));
  for (const name of ["blocks.0.norm1", "blocks.1.norm2", "merger.ln_q"])
    expect(decayed).toContain(`model.visual.${name}.weight`);
  expect(decayed.filter((name) => name.includes("language_model") && name.includes("norm"))).toEqual([]);
  expect(decayed.filter((name) => name.endsWith(".bias"))).toEqual([]);
});

test("files have the names of before there was one class for all parts, or those in memory", () => {
  const { storedNames } = openModel(config);
  expect(storedNames("model.language_model.norm.weight")).toEqual([
    "model.norm.weight",
    "model.language_model.norm.weight",
  ]);
  expect(storedNames("model.visual.merger.ln_q.weight")[0]).toBe("visual.merger.ln_q.weight");
  expect(storedNames("lm_head.weight")[0]).toBe("lm_head.weight");
});

test("a batch whose image tokens do not match its pictures is refused", () => {
  const model = openModel(config);
  const row: EncodedRow = {
    name: "row",
    inputIds: [1, 3, 3, 3, 2],
    labels: [-100, -100, -100, -100, -100],
    images: [
      {
        patches: new Float32Array(16 * 24),
        grid: { time: 1, height: 4, width: 4 },
        tokens: 3,
        resized: { width: 8, height: 8 },
      },
    ],
    imagePositions: [[1, 2, 3]],
  };
  expect(() => model.feeds(collate([row], model))).toThrow("the batch has 3 image tokens but its pictures give 4");
});

test("a picture that is too thin is refused by its name", () => {
  const processor = openModel(config).imageProcessor({}, {});
  const data = new Uint8Array(201 * 2 * 3);
  expect(() => processor.processPixels({ width: 402, height: 1, data: new Uint8Array(402 * 3) }, "hair.png")).toThrow(
    /hair\.png/,
  );
  expect(() => processor.processPixels({ width: 201, height: 2, data }, "thin.png")).not.toThrow();
});
