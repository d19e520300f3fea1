import { describe, expect, test } from "vitest";
import { catalogue, catalogueNames, findModel } from "./catalogue.ts";
import { countParameters, decoderLinears, loraParameters, visionLoraParameters } from "./parameters.ts";
import type { ModelFacts } from "./model-facts.ts";

function model(name: string): ModelFacts {
  const found = findModel(name);
  if (found === undefined) throw new Error(`${name} is not in the catalogue`);
  return found;
}

test("the catalogue holds the eleven models and reserves the tiny one", () => {
  expect(catalogueNames).toEqual([
    "drydock-tiny-vl", "nvila-lite-2b", "qwen3-vl-2b", "qwen2.5-vl-3b", "qwen3-vl-4b", "qwen3.5-4b", "qwen2.5-vl-7b",
    "cosmos-reason1-7b", "internvl3.5-8b", "qwen3-vl-8b", "qwen3.5-9b", "qwen3.5-27b",
  ]); // prettier-ignore
});

test("names are found in any case", () => {
  expect(findModel("Qwen3.5-4B")?.name).toBe("qwen3.5-4b");
  expect(findModel("qwen4")).toBeUndefined();
});

describe("parameter counts equal the published ones", () => {
  test.each([
    // Rank-16 adapters on decoder and tower make 8,818,470,640 in Unsloth's training log.
    ["qwen3-vl-8b", 8_767_123_696],
    ["qwen3-vl-4b", 4_437_815_808],
    ["qwen3-vl-2b", 2_127_532_032],
    ["qwen2.5-vl-7b", 8_292_166_656],
    ["qwen2.5-vl-3b", 3_754_622_976],
    ["qwen3.5-4b", 4_539_265_536],
  ])("%s has %d", (name, total) => {
    expect(countParameters(model(name).architecture).total).toBe(total);
  });

  test.each([
    ["qwen3.5-9b", 9.4],
    ["qwen3.5-27b", 27.36],
    ["internvl3.5-8b", 8.5],
    ["nvila-lite-2b", 2],
    ["cosmos-reason1-7b", 8.29],
  ])("%s has about %d billion", (name, billions) => {
    expect(Math.abs(countParameters(model(name).architecture).total / (billions * 1e9) - 1)).toBeLessThan(0.01);
  });
});

test("rank-16 adapters on decoder and tower of Qwen3-VL-8B have the count of a published training log", () => {
  const { text, vision } = model("qwen3-vl-8b").architecture;
  if (vision === null) throw new Error("no tower");
  const adapters = loraParameters(text, 16, "all-linear") + visionLoraParameters(vision, 16);
  expect(adapters).toBe(51_346_944);
  expect(countParameters(model("qwen3-vl-8b").architecture).total + adapters).toBe(8_818_470_640);
});

test("the 27B language part is split into full-attention and delta layers as its checkpoint is", () => {
  const linears = decoderLinears(model("qwen3.5-27b").architecture.text);
  expect(linears.find((layer) => layer.name === "q_proj")).toMatchObject({ outputSize: 12_288, count: 16 });
  expect(linears.find((layer) => layer.name === "in_proj_qkv")).toMatchObject({ outputSize: 10_240, count: 48 });
});

test("the parts of every model sum to its total", () => {
  for (const { architecture } of catalogue) {
    const { total, ...parts } = countParameters(architecture);
    expect(Object.values(parts).reduce((sum, part) => sum + part, 0)).toBe(total);
  }
});

test("only NVILA-Lite lacks LoRA, and it says why", () => {
  expect(catalogue.filter((entry) => !entry.modes.includes("lora")).map((entry) => entry.name)).toEqual([
    "nvila-lite-2b",
  ]);
  expect(model("nvila-lite-2b").modeRefusal).toMatch(/adapter/);
});
