import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { recordDifference } from "../../../../test/golden/parity/fidelity-record.ts";
import { readSafetensorsHeader, readTensorBytes, type SafetensorsHeader } from "../weights/safetensors.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import { loadImageProcessor } from "../models/load-image-processor.ts";
import { QwenImageProcessor } from "./qwen-image-processor.ts";

const golden = resolve(import.meta.dirname, "../../../../test/golden/images");
const small = {
  patch_size: 8,
  merge_size: 2,
  temporal_patch_size: 2,
  image_mean: [0.5, 0.5, 0.5],
  image_std: [0.5, 0.5, 0.5],
};

/** What Qwen2.5-VL is published with. */
const clip = {
  patch_size: 14,
  merge_size: 2,
  temporal_patch_size: 2,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
  min_pixels: 3136,
  max_pixels: 12845056,
};

describe.each([
  ["wide", "as Qwen3-VL has it", "", { ...small, min_pixels: 1024, max_pixels: 4096 }],
  ["tall", "as Qwen3-VL has it", "", { ...small, min_pixels: 1024, max_pixels: 4096 }],
  ["wide", "as Qwen2.5-VL has it", ".clip", clip],
  ["tall", "as Qwen2.5-VL has it", ".clip", clip],
])("the %s picture against transformers, %s", (name, _how, kind, settings) => {
  let header: SafetensorsHeader;
  beforeAll(async () => (header = await readSafetensorsHeader(join(golden, "pixel-values.safetensors"))));

  test("gives the same patches within float rounding", async () => {
    const processor = new QwenImageProcessor(settings);
    const { patches, grid, tokens } = await processor.process(join(golden, `${name}.png`), name);
    const expected = (await readFloatTensors(header, [`${name}${kind}.pixel_values`])).get(
      `${name}${kind}.pixel_values`,
    ) as Float32Array;
    const [time, height, width] = Array.from(
      new BigInt64Array((await readTensorBytes(header, `${name}${kind}.grid`)).slice().buffer),
      Number,
    );
    expect(grid).toEqual({ time, height, width });
    expect(tokens).toBe((grid.height * grid.width) / 4);
    expect(patches).toHaveLength(expected.length);
    const difference = patches.reduce(
      (largest, value, index) => Math.max(largest, Math.abs(value - (expected[index] as number))),
      0,
    );
    const family = kind === "" ? "qwen3-vl" : "qwen2-5-vl";
    recordDifference({ family, shape: "-", check: "pixel values", difference });
    expect(difference).toBeLessThan(1e-6);
  });
});

describe("bounds on the pixels", () => {
  const picture = { width: 1000, height: 1000 };
  test.each([
    ["min_pixels and max_pixels", { min_pixels: 1024, max_pixels: 4096 }, 64],
    ["size.shortest_edge and size.longest_edge", { size: { shortest_edge: 1024, longest_edge: 4096 } }, 64],
    [
      "both, where the pixel keys win",
      { min_pixels: 1024, max_pixels: 16384, size: { shortest_edge: 1024, longest_edge: 4096 } },
      128,
    ],
  ])("are read from %s", (_, file, side) => {
    expect(new QwenImageProcessor({ ...small, ...file }).resizedSize(picture)).toEqual({ width: side, height: side });
  });

  test("are narrowed by the run spec", () => {
    const processor = new QwenImageProcessor({ ...small, min_pixels: 1024, max_pixels: 16384 }, { maxPixels: 4096 });
    expect(processor.resizedSize(picture)).toEqual({ width: 64, height: 64 });
  });

  test("that contradict each other are refused", () => {
    expect(() => new QwenImageProcessor({ ...small, max_pixels: 4096 }, { minPixels: 9000 })).toThrow(
      "image.minPixels 9000 is above image.maxPixels 4096",
    );
  });
});

test("a picture more than 200 times as wide as high is refused with its name", async () => {
  const strip = await sharp({ create: { width: 402, height: 2, channels: 3, background: "#000" } })
    .png()
    .toBuffer();
  await expect(new QwenImageProcessor(small).process(strip, "strip.png")).rejects.toThrow(
    /^picture strip\.png cannot be used: a picture of 402×2 pixels has a side ratio of 201\.0; at most 200 is accepted/,
  );
});

describe("preprocessor_config.json", () => {
  const model = { imageProcessor: (file: unknown) => new QwenImageProcessor(file) };
  let directory: string;
  beforeAll(async () => (directory = await mkdtemp(join(tmpdir(), "drydock-preprocessor-"))));
  afterAll(async () => await rm(directory, { recursive: true, force: true }));

  test("that is missing is named", async () => {
    await expect(loadImageProcessor(model, join(directory, "none"))).rejects.toThrow(
      /none\/preprocessor_config\.json cannot be read/,
    );
  });

  test("may be a part of the file that transformers 5 writes for the whole processor", async () => {
    const folder = join(directory, "joint");
    await mkdir(folder);
    await writeFile(join(folder, "processor_config.json"), JSON.stringify({ image_processor: small }));
    expect((await loadImageProcessor(model, folder)).resizedSize({ width: 33, height: 33 })).toEqual({
      width: 32,
      height: 32,
    });
  });

  test("with a wrong value is refused with the field", async () => {
    await writeFile(join(directory, "preprocessor_config.json"), JSON.stringify({ patch_size: 0 }));
    await expect(loadImageProcessor(model, directory)).rejects.toThrow("preprocessor_config.json: patch_size: ");
  });
});
