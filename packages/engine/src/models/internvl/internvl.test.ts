import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collate } from "../../batch/collate.ts";
import type { EncodedRow } from "../../batch/encoded-row.ts";
import { isDecayed } from "../../training/adamw.ts";
import { findTensor } from "../../weights/find-tensor.ts";
import { openModelFolder } from "../../weights/open-model-folder.ts";
import { readWeights } from "../../weights/read-weights.ts";
import { readSafetensorsHeader, writeSafetensors } from "../../weights/safetensors.ts";
import { wholeModel } from "../../weights/stored-tensors.ts";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";
import { createRandomModel } from "../random-model.ts";

const text = {
  model_type: "qwen3",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 8,
  max_position_embeddings: 64,
};
const vision = { hidden_size: 8, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 12, image_size: 8 };
const native = {
  model_type: "internvl",
  image_token_id: 3,
  tie_word_embeddings: false,
  text_config: text,
  vision_config: { ...vision, patch_size: [2, 2], attention_bias: true },
};
const remote = {
  model_type: "internvl_chat",
  dynamic_image_size: true,
  max_dynamic_patch: 12,
  llm_config: text,
  vision_config: { ...vision, patch_size: 2, qkv_bias: true, qk_normalization: false, norm_type: "layer_norm" },
};

describe("a config.json is refused that", () => {
  test.each([
    [
      "lacks a size",
      { ...native, vision_config: { ...native.vision_config, hidden_size: undefined } },
      /vision_config\.hidden_size/,
    ],
    [
      "has patches that are not square",
      { ...native, vision_config: { ...native.vision_config, patch_size: [2, 4] } },
      /vision_config\.patch_size \[2, 4\] is not square/,
    ],
    [
      "has a tile that patches do not fill",
      { ...native, vision_config: { ...native.vision_config, image_size: 9 } },
      /image_size 9 is no multiple of patch_size 2/,
    ],
    [
      "joins patches that the tile does not have",
      { ...native, downsample_ratio: 0.3 },
      /downsample_ratio 0\.3 does not fit 4 patches a side/,
    ],
    [
      "takes features behind the last block",
      { ...native, vision_feature_layer: 3 },
      /vision_feature_layer 3 is none of the 3 states/,
    ],
    [
      "has another activation",
      { ...native, vision_config: { ...native.vision_config, hidden_act: "relu" } },
      /vision_config\.hidden_act is "relu".*knows silu/,
    ],
    [
      "has another decoder",
      { ...native, text_config: { ...text, model_type: "gpt_oss" } },
      /text_config\.model_type is "gpt_oss".*runs llama, mistral, qwen2, qwen3/,
    ],
    ["has no decoder", { ...native, text_config: undefined }, /text_config/],
    [
      "stretches positions by yarn",
      { ...native, text_config: { ...text, rope_scaling: { type: "yarn", factor: 4 } } },
      /text_config: rotary positions of type "yarn"/,
    ],
    ["shuffles pixels the first way", { ...remote, ps_version: "v1" }, /ps_version: only "v2" is run/],
    ["names no picture token, in a folder without one", remote, /the folder's tokenizer\.json has no <IMG_CONTEXT>/],
  ])("%s", (_what, config, message) => {
    expect(() => openModel(config)).toThrow(message);
    expect(() => openModel(config)).toThrow(/^config\.json: /);
  });
});

test("weight decay reaches scales of branches, class token and positions, but no norm and no bias", () => {
  const { variables } = wholeForward(openModel(native));
  const decayed = [...variables.shapes.keys()].filter((name) => isDecayed(name, variables.layerNorms.has(name)));
  const block = "model.vision_tower.encoder.layer.0.";
  for (const name of [`${block}lambda_1`, `${block}lambda_2`]) expect(decayed).toContain(name);
  for (const name of ["cls_token", "position_embeddings"])
    expect(decayed).toContain(`model.vision_tower.embeddings.${name}`);
  expect(decayed.filter((name) => /norm|bias/.test(name))).toEqual([]);
});

test("blocks behind the features may be in files, others that the model does not know may not", () => {
  const model = openModel({ ...native, vision_feature_layer: -2 });
  expect(model.isUnused("vision_tower.encoder.layer.1.lambda_1")).toBe(true);
  expect(model.isUnused("vision_tower.encoder.layer.0.lambda_1")).toBe(false);
  expect(model.isUnused("vision_tower.encoder.layer.0.lambda_3")).toBe(false);
});

describe("a batch is refused", () => {
  const row = (tiles: number, tokens: number, side = 4): EncodedRow => ({
    name: "row",
    inputIds: [1, ...Array.from({ length: tokens }, () => 3), 2],
    labels: Array.from({ length: tokens + 2 }, () => -100),
    images: [
      {
        patches: new Float32Array(tiles * side ** 2 * 12),
        grid: { time: tiles, height: side, width: side },
        tokens,
        resized: { width: 8, height: 8 },
      },
    ],
    imagePositions: [Array.from({ length: tokens }, (_, index) => index + 1)],
  });
  const model = openModel(native);
  test("whose image tokens do not match its pictures", () => {
    expect(() => model.feeds(collate([row(2, 7)], model))).toThrow(
      "the batch has 7 image tokens but its pictures give 8",
    );
  });
  test("whose tiles are not those of the tower", () => {
    expect(() => model.feeds(collate([row(1, 1, 2)], model))).toThrow(
      /tiles of 2 by 2 patches, but the model's tower takes 4 by 4/,
    );
  });
});

describe("a folder of the form with code of its own", () => {
  let directory: string;
  const query = "model.vision_tower.encoder.layer.1.attention.q_proj.weight";
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "drydock-internvl-"));
    await createRandomModel({ ...remote, image_token_id: 3 }, directory, 1);
    await writeFile(join(directory, "config.json"), JSON.stringify(remote));
    const added = [{ id: 7, content: "<IMG_CONTEXT>", special: true }];
    await writeFile(join(directory, "tokenizer.json"), JSON.stringify({ added_tokens: added }));
  });
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  test("has its picture token from its tokenizer", async () => {
    expect((await openModelFolder(directory)).model.imageTokenId).toBe(7);
  });

  test("holds queries, keys and values of a block in one tensor", async () => {
    const folder = await openModelFolder(directory);
    const stored = folder.headers[0]?.tensors.get("vision_model.encoder.layers.1.attn.qkv.weight");
    expect(stored?.shape).toEqual([24, 8]);
    const { entry } = findTensor(folder, query.replace("q_proj", "v_proj"), [8, 8]);
    expect(entry.offset).toBe((stored?.offset ?? 0) + 2 * 8 * 8 * 4);
  });

  test("keeps the parts that were not trained when it is saved", async () => {
    const folder = await openModelFolder(directory);
    const before = await readWeights(folder, wholeForward(folder.model).variables.shapes.keys());
    const trained = new Float32Array(64).fill(0.5);
    const saved = await mkdtemp(join(tmpdir(), "drydock-internvl-saved-"));
    const tensors = await wholeModel(folder, [{ name: query, shape: [8, 8], data: trained }]);
    await writeSafetensors(join(saved, "model.safetensors"), tensors);
    for (const name of ["config.json", "tokenizer.json"])
      await writeFile(
        join(saved, name),
        name === "config.json" ? JSON.stringify(remote) : '{"added_tokens":[{"id":7,"content":"<IMG_CONTEXT>"}]}',
      );
    const again = await openModelFolder(saved);
    const after = await readWeights(again, before.keys());
    for (const [name, values] of before) expect(after.get(name), name).toEqual(name === query ? trained : values);
    expect(again.headers[0]?.tensors.size).toBe(folder.headers[0]?.tensors.size);
    await rm(saved, { recursive: true });
  });

  test("with a joined tensor of another size is refused, with the shapes", async () => {
    const broken = await mkdtemp(join(tmpdir(), "drydock-internvl-broken-"));
    const header = await readSafetensorsHeader(join(directory, "model.safetensors"));
    const tensors = [...header.tensors.values()].map(({ name, shape }) => {
      const own = name.endsWith("1.attn.qkv.weight") ? [20, 8] : shape;
      return { name, shape: own, data: new Float32Array(own.reduce((size, side) => size * side, 1)) };
    });
    await writeSafetensors(join(broken, "model.safetensors"), tensors);
    await writeFile(join(broken, "config.json"), JSON.stringify({ ...remote, image_token_id: 3 }));
    await expect(openModelFolder(broken)).rejects.toThrow(
      /weight vision_model\.encoder\.layers\.1\.attn\.qkv\.weight of .* is \[20, 8\], but holds 3 weights of equal size/,
    );
    await rm(broken, { recursive: true });
  });
});
