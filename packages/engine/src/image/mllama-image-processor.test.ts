import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { tilingsOf } from "../models/mllama/config.ts";
import type { RgbImage } from "./decode-image.ts";
import { MllamaImageProcessor } from "./mllama-image-processor.ts";

const tiles = { patchSize: 4, side: 4, tiles: 4, tilings: tilingsOf(4) };
const file = { size: { height: 16, width: 16 }, max_image_tiles: 4 };
const processor = new MllamaImageProcessor(file, tiles);
const grey = (width: number, height: number): RgbImage => ({
  width,
  height,
  data: new Uint8Array(width * height * 3).fill(255),
});

const path = resolve(import.meta.dirname, "../../../../test/golden/parity/mllama/preprocessing/canvases.json");
const canvases = JSON.parse(await readFile(path, "utf8")) as [number, number, number, number, number, number][];

test.each(canvases)("%i×%i is laid out in %i×%i tiles as %i×%i, as in transformers", (width, height, ...expected) => {
  const { tiling, resized } = processor.processPixels(grey(width, height), "picture");
  expect([tiling?.columns, tiling?.rows, resized.width, resized.height]).toEqual(expected);
  expect(processor.resizedSize({ width, height })).toEqual(resized);
});

test("a picture is one token, and what it does not fill is black", () => {
  const { patches, tokens, grid } = processor.processPixels(grey(16, 8), "picture");
  expect(tokens).toBe(1);
  expect(processor.tokensOf()).toBe(1);
  expect(grid).toEqual({ time: 1, height: 4, width: 4 });
  expect(patches.subarray(0, 48).every((value) => value === 1)).toBe(true);
  expect(patches.subarray(-48).every((value) => value === -1)).toBe(true);
});

test("a thin picture is refused by name", () => {
  expect(() => processor.processPixels(grey(1, 201), "post.png")).toThrow(/^picture post\.png cannot be used: .*200/);
});

describe("a preprocessor_config.json is refused that", () => {
  test.each([
    ["has tiles of another size", { ...file, size: { height: 32, width: 32 } }, /size is 32 by 32.*tiles of 16 by 16/],
    ["has another number of tiles", { ...file, max_image_tiles: 2 }, /max_image_tiles is 2.*tower takes 4/],
    ["does not fill tiles up", { ...file, do_pad: false }, /do_pad: pictures are always filled up/],
    ["resizes in another way", { ...file, resample: 0 }, /resample: must be 2 \(bilinear\) or 3 \(bicubic\)/],
    ["has no size", { max_image_tiles: 4 }, /size/],
  ])("%s", (_what, given, message) => {
    expect(() => new MllamaImageProcessor(given, tiles)).toThrow(message);
    expect(() => new MllamaImageProcessor(given, tiles)).toThrow(/^preprocessor_config\.json: /);
  });
});
