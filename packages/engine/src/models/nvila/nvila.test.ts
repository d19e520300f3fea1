import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nvilaLoraRefusal } from "@drydock/spec";
import { collate } from "../../batch/collate.ts";
import type { EncodedRow } from "../../batch/encoded-row.ts";
import { EngineTrainer } from "../../training/trainer.ts";
import { isDecayed } from "../../training/adamw.ts";
import { openModelFolder } from "../../weights/open-model-folder.ts";
import { readSafetensorsHeader } from "../../weights/safetensors.ts";
import { writeByParts } from "../../weights/folder-parts.ts";
import { openModel } from "../families.ts";
import { wholeForward } from "../model.ts";

const llm = {
  model_type: "qwen2",
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 20,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  max_position_embeddings: 64,
  rope_theta: 1e6,
  tie_word_embeddings: true,
};
const tower = {
  hidden_size: 8,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 12,
  image_size: 8,
  patch_size: 2,
};
const bridge = { model_type: "v2l_projector", mm_projector_type: "mlp_downsample_3x3_fix" };
const config = { model_type: "llava_llama", llm_cfg: llm, vision_tower_cfg: tower, mm_projector_cfg: bridge };
const flat = { model_type: "nvila_lite", text_config: llm, vision_config: tower, image_token_id: 3 };
const facts = { tokenId: (token: string) => (token === "<image>" ? 3 : undefined) };

describe("a config.json is refused that", () => {
  test.each([
    ["lacks a part", { ...config, mm_projector_cfg: undefined }, /mm_projector_cfg/],
    ["names a part's place instead of saying what it is", { ...config, llm_cfg: "./llm" }, /llm_cfg: must be the conf/],
    [
      "has another bridge",
      { ...config, mm_projector_cfg: { ...bridge, mm_projector_type: "mlp_downsample" } },
      /mm_projector_type: only "mlp_downsample_3x3_fix", the bridge of NVILA-Lite, is run/,
    ],
    [
      "has a tower of several scales",
      { ...config, dynamic_s2: true },
      /dynamic_s2: a tower of several scales is not run/,
    ],
    ["cuts pictures in another way", { ...config, image_aspect_ratio: "pad" }, /image_aspect_ratio: only "dynamic"/],
    ["leaves out a class token", { ...config, mm_vision_select_feature: "patch" }, /mm_vision_select_feature: only/],
    [
      "takes a state that the tower does not have",
      { ...config, mm_vision_select_layer: -4 },
      /mm_vision_select_layer -4 is none of the 3 states/,
    ],
    [
      "has a tower of another kind",
      { ...config, vision_tower_cfg: { ...tower, model_type: "intern_vit_6b" } },
      /vision_tower_cfg\.model_type: only the tower of SigLIP is run/,
    ],
    [
      "has a tile that patches do not fill",
      { ...config, vision_tower_cfg: { ...tower, image_size: 9 } },
      /vision_tower_cfg\.image_size 9 is no multiple of patch_size 2/,
    ],
    [
      "puts something else behind pictures",
      { ...config, image_encoder: '{"_target_": "llava.model.encoders.BasicImageEncoder", "end_tokens": null}' },
      /image_encoder is .*it runs BasicImageEncoder/,
    ],
    [
      "has fewer tiles at most than at least",
      { ...config, min_tiles: 4, max_tiles: 2 },
      /min_tiles 4 is more than max_tiles 2/,
    ],
    ["names no picture token, in one folder", { ...flat, image_token_id: undefined }, /image_token_id/],
  ])("%s", (_what, file, message) => {
    expect(() => openModel(file, facts)).toThrow(message);
    expect(() => openModel(file, facts)).toThrow(/^config\.json: /);
  });

  test("a folder whose tokenizer has no picture token", () => {
    expect(() => openModel(config)).toThrow(/tokenizer\.json in the folder or in its llm has no <image>/);
  });
});

test("a state of the tower is taken before its last block, which may be in files", () => {
  const model = openModel(config, facts);
  const names = [...wholeForward(model).variables.shapes.keys()];
  expect(names.filter((name) => name.includes("encoder.layers.1."))).toEqual([]);
  expect(model.isUnused("vision_tower.vision_model.encoder.layers.1.mlp.fc1.bias")).toBe(true);
  expect(model.isUnused("vision_tower.vision_model.post_layernorm.weight")).toBe(true);
  expect(model.isUnused("vision_tower.vision_model.encoder.layers.0.mlp.fc1.bias")).toBe(false);
});

test("weight decay reaches tables and linear layers, but no norm of the bridge", () => {
  const { variables } = wholeForward(openModel(config, facts));
  const decayed = [...variables.shapes.keys()].filter((name) => isDecayed(name, variables.layerNorms.has(name)));
  expect(decayed.filter((name) => name.includes("mm_projector"))).toEqual(
    [2, 5, 7].map((index) => `model.mm_projector.layers.${index}.weight`),
  );
  expect(decayed).toContain("model.vision_tower.embeddings.position_embedding.weight");
});

test("a batch whose image tokens do not match its pictures is refused", () => {
  const model = openModel(flat);
  const row: EncodedRow = {
    name: "row",
    inputIds: [1, 3, 3, 3, 2],
    labels: [-100, -100, -100, -100, -100],
    images: [
      {
        patches: new Float32Array(16 * 12),
        grid: { time: 1, height: 4, width: 4 },
        tokens: 3,
        resized: { width: 8, height: 8 },
      },
    ],
    imagePositions: [[1, 2, 3]],
  };
  expect(() => model.feeds(collate([row], model))).toThrow("the batch has 3 image tokens but its pictures give 4");
});

describe("a folder with a sub-folder a part", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "drydock-nvila-"));
    const configs = { llm, vision_tower: tower, mm_projector: bridge };
    await writeFile(join(directory, "config.json"), JSON.stringify({ ...config, llm_cfg: {}, vision_tower_cfg: {} }));
    for (const [part, own] of Object.entries(configs)) {
      await mkdir(join(directory, part));
      await writeFile(join(directory, part, "config.json"), JSON.stringify(own));
    }
    const added = [{ id: 7, content: "<image>", special: true }];
    await writeFile(join(directory, "llm/tokenizer.json"), JSON.stringify({ added_tokens: added }));
    const model = openModel(config, facts);
    const tensors = [...wholeForward(model).variables.shapes].map(([name, shape]) => {
      const sizes = shape.map(Number);
      const data = new Float32Array(sizes.reduce((size, side) => size * side, 1)).fill(0.01);
      return { name: model.storedNames(name)[0] as string, shape: sizes, data };
    });
    await writeByParts(directory, tensors);
  });
  afterEach(async () => await rm(directory, { recursive: true, force: true }));

  test("has its sizes from the parts' own config.json, and its picture token from the decoder's tokenizer", async () => {
    const { model } = await openModelFolder(directory);
    expect(model.vocabularySize).toBe(40);
    expect(model.imageTokenId).toBe(7);
    const { tensors } = await readSafetensorsHeader(join(directory, "mm_projector/model.safetensors"));
    expect([...tensors.keys()]).toContain("layers.7.bias");
  });

  test("that lacks a part's config.json is refused by its path", async () => {
    await rm(join(directory, "vision_tower/config.json"));
    await expect(openModelFolder(directory)).rejects.toThrow(/vision_tower\/config\.json cannot be read/);
  });

  test("that lacks a part's weights is refused by its path", async () => {
    await rm(join(directory, "mm_projector/model.safetensors"));
    await expect(openModelFolder(directory)).rejects.toThrow(/mm_projector has neither model\.safetensors nor/);
  });

  test("takes no adapter, for the reason that a plan gives", async () => {
    const opened = EngineTrainer.open({
      directory,
      mode: "lora",
      lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
      optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
      schedule: { kind: "constant", learningRate: 1e-3, warmupRatio: 0, totalSteps: 1 },
      seed: 1,
      threads: 1,
    });
    await expect(opened).rejects.toThrow(`NVILA-Lite takes no adapter: ${nvilaLoraRefusal}; use mode "full"`);
  });
});
