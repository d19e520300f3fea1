import { describe, expect, test } from "vitest";
import type { RgbImage } from "./decode-image.ts";
import { TileImageProcessor, type TileSettings } from "./tile-image-processor.ts";
import { placesInCells } from "./tile-patches.ts";

const settings: TileSettings = {
  patchSize: 4,
  side: 4,
  places: placesInCells(4, 2),
  tokensPerTile: 4,
  minTiles: 1,
  maxTiles: 12,
  hasThumbnail: true,
};
const native = (file: object = {}, bounds = {}): TileImageProcessor =>
  new TileImageProcessor(file, settings, bounds, "got-ocr2");
const plain = (width: number, height: number): RgbImage => ({
  width,
  height,
  data: new Uint8Array(width * height * 3),
});

// Height and width as the reference's rule for grids has been run on them (tiles of 448 pixels).
test.each([
  [640, 480, 4, 3, 13],
  [1920, 1080, 4, 2, 9],
  [448, 448, 1, 1, 1],
  [500, 2000, 1, 4, 5],
  [900, 900, 2, 2, 5],
])("a picture of %d×%d is cut into %d×%d tiles, %d with the small copy", (width, height, columns, rows, tiles) => {
  const processor = new TileImageProcessor({}, { ...settings, side: 32, patchSize: 14 }, {}, "got-ocr2");
  expect(processor.resizedSize({ width, height })).toEqual({ width: columns * 448, height: rows * 448 });
  expect(processor.tokensOf({ width, height })).toBe(tiles * 4);
});

describe("the number of tiles", () => {
  test("is bounded by the preprocessor file", () => {
    expect(native({ max_patches: 2 }).tokensOf({ width: 64, height: 48 })).toBe(4);
  });
  test("is lowered by a run's maxPixels, to one tile at least", () => {
    expect(native({}, { maxPixels: 4 * 16 ** 2 }).tokensOf({ width: 64, height: 64 })).toBe(5 * 4);
    expect(native({}, { maxPixels: 10 }).tokensOf({ width: 64, height: 64 })).toBe(4);
  });
  test("comes from config.json in the form with code of its own, whose file says another size", () => {
    const one = { ...settings, maxTiles: 1 };
    const processor = new TileImageProcessor({ size: 448, crop_size: 448 }, one, {}, "remote");
    expect(processor.tokensOf({ width: 640, height: 480 })).toBe(4);
  });
});

test.each([
  ["resize another way", { resample: 2 }, "preprocessor_config.json: resample: must be 3 (bicubic)"],
  ["leave pixels as they are", { do_normalize: false }, "preprocessor_config.json: do_normalize: "],
  ["scale pixels otherwise", { rescale_factor: 1 }, "preprocessor_config.json: rescale_factor: must be 1/255"],
  ["give two means", { image_mean: [0.5, 0.5] }, "preprocessor_config.json: image_mean"],
  [
    "make tiles that the tower does not take",
    { size: { height: 384, width: 384 } },
    "preprocessor_config.json: size is 384 by 384, but config.json says that the model's tower takes 16 by 16",
  ],
])("a file that would %s is refused", (_what, file, message) => {
  expect(() => native(file)).toThrow(message);
});

test.each([
  [201, 1],
  [1, 4020],
])("a picture of %d×%d is too thin, and named", (width, height) => {
  expect(() => native().processPixels(plain(width, height), "strip.png")).toThrow(
    /^picture strip\.png cannot be used: a picture of \d+×\d+ pixels has a side ratio of \d+\.0; at most 200 is accepted/,
  );
});

test("a picture one pixel high is seen", () => {
  const { grid, tokens } = native().processPixels(plain(150, 1), "line.png");
  expect({ grid, tokens }).toEqual({ grid: { time: 13, height: 4, width: 4 }, tokens: 52 });
});
