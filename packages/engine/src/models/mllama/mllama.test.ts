import { describe, expect, test } from "vitest";
import { collate } from "../../batch/collate.ts";
import type { EncodedRow } from "../../batch/encoded-row.ts";
import type { ModelBatch } from "../../batch/model-batch.ts";
import { trainingSegments } from "../../segments/training-segments.ts";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";
import { llama3Frequencies } from "../parts/rotary-scaling.ts";
import { rotaryFrequencies } from "../parts/text-inputs.ts";
import { parseMllamaConfig, tilingsOf } from "./config.ts";

const vision = {
  hidden_size: 8,
  num_hidden_layers: 2,
  num_global_layers: 1,
  attention_heads: 2,
  intermediate_size: 12,
  image_size: 4,
  patch_size: 2,
  max_num_tiles: 2,
  supported_aspect_ratios: [
    [1, 1],
    [1, 2],
    [2, 1],
  ],
  intermediate_layers_indices: [1],
  vision_output_dim: 16,
};
const text = {
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 3,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  cross_attention_layers: [1],
};
const config = { model_type: "mllama", image_token_index: 40, text_config: text, vision_config: vision };
const model = openModel(config);
const mark = 40;

test("what the published file of Llama-3.2-11B-Vision leaves out is that of the class", () => {
  const published = openModel({ model_type: "mllama", text_config: {}, vision_config: { image_size: 560 } });
  expect(published).toMatchObject({ vocabularySize: 128_256, contextWindow: 131_072, imageTokenId: 128_256 });
  const { shapes } = wholeForward(published).variables;
  expect(shapes.get("model.language_model.embed_tokens.weight")).toEqual([128_264, 4096]);
  expect(shapes.get("model.language_model.layers.38.cross_attn.k_proj.weight")).toEqual([1024, 4096]);
  expect(shapes.get("model.vision_model.gated_positional_embedding.tile_embedding.weight")).toEqual([9, 8_197_120]);
  expect(shapes.get("model.multi_modal_projector.weight")).toEqual([4096, 7680]);
});

test("tiles are laid out in the order of their embeddings", () => {
  expect(tilingsOf(4).map((tiling) => tiling.join("×"))).toEqual([
    "1×1",
    "1×2",
    "1×3",
    "1×4",
    "2×1",
    "2×2",
    "3×1",
    "4×1",
  ]);
});

test("old and new spelling of stretched positions are the same", () => {
  const stretched = {
    rope_type: "llama3",
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 16,
  };
  const old = parseMllamaConfig({ ...config, text_config: { ...text, rope_theta: 10_000, rope_scaling: stretched } });
  const now = parseMllamaConfig({
    ...config,
    text_config: { ...text, rope_parameters: { ...stretched, rope_theta: 10_000 } },
  });
  expect(old.rotary).toEqual(now.rotary);
  expect(old.rotary.frequencies[0]).toBeLessThan(1);
});

test("waves longer than the first window are stretched by the factor, short ones are kept", () => {
  const plain = rotaryFrequencies(500_000, 64);
  const rope = { factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const stretched = llama3Frequencies(plain, "rope", rope);
  expect(stretched[0]).toBe(plain[0]);
  expect(stretched[63]).toBeCloseTo((plain[63] as number) / 8, 12);
});

describe("a config.json is refused that", () => {
  test.each([
    [
      "looks at pictures in a layer that it lacks",
      { ...config, text_config: { ...text, cross_attention_layers: [3] } },
      /text_config\.cross_attention_layers names layer 3, but there are 3/,
    ],
    [
      "hands on a layer that the tower lacks",
      { ...config, vision_config: { ...vision, intermediate_layers_indices: [2] } },
      /intermediate_layers_indices names layer 2, but there are 2/,
    ],
    [
      "hands on another width",
      { ...config, vision_config: { ...vision, vision_output_dim: 24 } },
      /vision_output_dim is 24, but the last state and 1 others of 8 values make 16/,
    ],
    [
      "has more tiles in a layout than in a picture",
      { ...config, vision_config: { ...vision, supported_aspect_ratios: [[1, 3]] } },
      /supported_aspect_ratios has \[1, 3\], more than max_num_tiles 2/,
    ],
    [
      "has a tile that patches do not fill",
      { ...config, vision_config: { ...vision, image_size: 5 } },
      /image_size 5 is no multiple of patch_size 2/,
    ],
    [
      "has heads that do not fit",
      { ...config, vision_config: { ...vision, attention_heads: 3 } },
      /does not divide by attention_heads 3/,
    ],
    [
      "stretches positions in another way",
      { ...config, text_config: { ...text, rope_scaling: { rope_type: "yarn" } } },
      /text_config\.rope_scaling\.rope_type/,
    ],
    [
      "does not say how it stretches them",
      { ...config, text_config: { ...text, rope_scaling: { rope_type: "llama3" } } },
      /text_config\.rope_scaling\.factor/,
    ],
    ["has no tower", { ...config, vision_config: undefined }, /vision_config/],
  ])("%s", (_what, given, message) => {
    expect(() => openModel(given)).toThrow(message);
    expect(() => openModel(given)).toThrow(/^config\.json: /);
  });
});

const picture = (rows: number, columns: number) => ({
  patches: new Float32Array(rows * columns * 4 * 12),
  grid: { time: rows * columns, height: 2, width: 2 },
  tokens: 1,
  tiling: { rows, columns },
  resized: { width: 4, height: 4 },
});

function row(inputIds: number[], images: EncodedRow["images"]): EncodedRow {
  const places = inputIds.flatMap((id, position) => (id === mark ? [[position]] : []));
  return { name: "row", inputIds, labels: inputIds.map(() => -100), images, imagePositions: places };
}

const feed = (batch: ModelBatch, name: string): number[] => [
  ...((model.feeds(batch)[name]?.data ?? []) as Float32Array),
];

describe("what tokens see", () => {
  test("the picture whose mark they follow last; before the first mark all of their row; marks together are seen together", () => {
    const batch = collate([row([5, mark, 6, mark, mark, 7], [picture(1, 1), picture(1, 2), picture(2, 1)])], model);
    expect(feed(batch, "token-sees")).toEqual([0, 1, 1, 1, 1, 1]);
    expect(feed(batch, "cross-floor")).toEqual([0, 0, 0, 1, 1, 1]);
    expect(feed(batch, "cross-reach").slice(1)).toEqual([0, 0, 1, 2, 2]);
    expect(feed(batch, "cross-reach")[0]).toBeGreaterThan(2);
  });

  test("nothing in rows without pictures, and a further token sees what the last one did", () => {
    const batch = collate([row([5, mark, 6, mark, 7], [picture(1, 1), picture(1, 1)]), row([5, 6], [])], model);
    expect(feed(batch, "row-has-pictures")).toEqual([1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    const { feeds, symbols } = model.step(batch, Int32Array.of(5, 2, 5, 2, 5, 2), 8);
    expect(Array.from(feeds["cross-floor"]?.data as Float32Array)).toEqual([1, 0]);
    expect(Array.from(feeds["row-has-pictures"]?.data as Float32Array)).toEqual([1, 0]);
    expect(symbols).toEqual({ C: 2 });
  });
});

describe("a batch is refused whose", () => {
  test.each([
    [
      "marks are fewer than its pictures",
      [row([5, mark], [picture(1, 1), picture(1, 1)])],
      /1 image tokens but 2 pictures/,
    ],
    [
      "tiles are laid out in no known way",
      [row([mark], [picture(2, 2)])],
      /4 tiles, 2 rows of 2, which is none of the model's supported_aspect_ratios/,
    ],
    [
      "tiles have another size",
      [row([mark], [{ ...picture(1, 1), grid: { time: 1, height: 3, width: 3 } }])],
      /tiles of 3 by 3 patches, but the model's tower takes 2 by 2/,
    ],
  ])("%s", (_what, rows, message) => {
    expect(() => model.feeds(collate(rows, model))).toThrow(message);
  });
});

test("stages of a pipeline hold the same layers with and without pictures, and hand on what pictures gave", () => {
  const stageOf = (hasImages: boolean, stage: number) =>
    trainingSegments(model, hasImages, () => true, null, { stage, stages: 2 });
  const layersOf = (hasImages: boolean, stage: number): string[] =>
    stageOf(hasImages, stage).own.filter(
      (name) => /layers\.\d+\.(?:self_attn|mlp)/.test(name) && !name.includes("vision"),
    );
  for (const stage of [0, 1]) expect(layersOf(true, stage)).toEqual(expect.arrayContaining(layersOf(false, stage)));
  const names = (values: readonly { readonly name: string }[]): string[] => values.map(({ name }) => name);
  expect(names(stageOf(true, 1).incoming)).toEqual(names(stageOf(true, 0).outgoing));
  expect(stageOf(true, 1).incoming.length).toBeGreaterThan(stageOf(false, 1).incoming.length);
});

test("a batch without pictures goes past the layers that look at them, and has as many cuts", () => {
  const seeing = model.forward({ hasImages: true });
  const blind = model.forward({ hasImages: false });
  expect(blind.layers).toHaveLength(seeing.layers.length);
  expect(new Set(blind.layers).size).toBe(blind.layers.length);
  expect([...blind.variables.shapes.keys()].filter((name) => name.includes("cross_attn"))).toEqual([]);
});
