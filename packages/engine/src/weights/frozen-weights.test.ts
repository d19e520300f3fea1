import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRandomModel } from "../models/random-model.ts";
import { FrozenWeights } from "./frozen-weights.ts";
import { findTensor } from "./find-tensor.ts";
import { openModelFolder } from "./open-model-folder.ts";
import type { ModelFolder } from "./model-folder.ts";

const config = {
  model_type: "qwen3_vl",
  image_token_id: 3,
  tie_word_embeddings: true,
  text_config: {
    vocab_size: 50,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
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
};

let directory: string;
let folder: ModelFolder;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-frozen-"));
  await createRandomModel(config, directory, 1);
  folder = await openModelFolder(directory);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

const gate = (layer: number): string => `model.language_model.layers.${layer}.mlp.gate_proj.weight`;
const shape = [24, 16];
const layerBytes = 24 * 16 * 4;
const only = (layer: number): ReadonlyMap<string, number[]> => new Map([[gate(layer), shape]]);

test("weights that fit stay: a second reader gets the same array", async () => {
  const weights = new FrozenWeights(folder);
  const first = await weights.borrow(only(0));
  first.release();
  const second = await weights.borrow(only(0));
  expect(second.feeds[gate(0)]?.data).toBe(first.feeds[gate(0)]?.data);
  expect(weights.heldBytes).toBe(layerBytes);
});

test("layers stream through the memory that the capacity allows", async () => {
  const weights = new FrozenWeights(folder, 2 * layerBytes);
  const arrays = new Set<unknown>();
  for (const layer of [0, 1, 2, 3, 2, 1, 0]) {
    const { feeds, release } = await weights.borrow(only(layer));
    const expected = await new FrozenWeights(folder).borrow(only(layer));
    expect(feeds[gate(layer)]?.data).toEqual(expected.feeds[gate(layer)]?.data);
    arrays.add(feeds[gate(layer)]?.data);
    release();
    expect(weights.heldBytes).toBeLessThanOrEqual(2 * layerBytes);
  }
  expect(arrays.size).toBe(2);
});

test("what is in use is not taken away, even over the capacity", async () => {
  const weights = new FrozenWeights(folder, layerBytes);
  const first = await weights.borrow(only(0));
  const before = Float32Array.from(first.feeds[gate(0)]?.data as Float32Array);
  const second = await weights.borrow(only(1));
  expect(first.feeds[gate(0)]?.data).toEqual(before);
  expect(weights.heldBytes).toBe(2 * layerBytes);
  first.release();
  second.release();
  expect(weights.heldBytes).toBe(layerBytes);
});

test("a number that is not finite is found when its weight is read, and named with its place", async () => {
  const { entry, header } = findTensor(folder, gate(3));
  const file = await open(header.path, "r+");
  await file.write(new Uint8Array(Float32Array.of(Number.NaN).buffer), 0, 4, entry.offset + 4 * (2 * 16 + 5));
  await file.close();
  const weights = new FrozenWeights(folder);
  await expect(weights.borrow(only(3))).rejects.toMatchObject({
    code: "weight_not_finite",
    message: expect.stringMatching(
      /^weight model\.language_model\.layers\.3\.mlp\.gate_proj\.weight of .*model\.safetensors has NaN at \[2, 5\]; /,
    ) as string,
  });
  expect(weights.heldBytes).toBe(0);
});
