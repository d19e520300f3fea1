import { describe, expect, test } from "vitest";
import { ClipImageProcessor } from "./clip-image-processor.ts";
import type { RgbImage } from "./decode-image.ts";

const settings = { patchSize: 4, side: 5, tokens: 25 };
const file = { size: { shortest_edge: 20 }, crop_size: { height: 20, width: 20 } };
const neutral = { image_mean: [0, 0, 0], image_std: [1, 1, 1] };

/** Bytes that say in which third of the longer side they lie. */
function striped(width: number, height: number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let index = 0; index < width * height; index++) {
    const along = width > height ? (index % width) / width : Math.floor(index / width) / height;
    data.fill(along < 1 / 3 ? 0 : along < 2 / 3 ? 100 : 200, index * 3, index * 3 + 3);
  }
  return { width, height, data };
}

test.each([
  [60, 20],
  [20, 60],
])("of a picture of %d×%d the middle is seen", (width, height) => {
  const { patches } = new ClipImageProcessor({ ...file, ...neutral }, settings).processPixels(
    striped(width, height),
    "",
  );
  expect(new Set(Array.from(patches, (value) => Math.round(value * 255)))).toEqual(new Set([100]));
});

test("padded to a square with the mean colour, all of it is seen", () => {
  const padding = { ...file, do_pad: true, image_mean: [0.2, 0.2, 0.2], image_std: [1, 1, 1] };
  const { patches } = new ClipImageProcessor(padding, settings).processPixels(striped(60, 20), "");
  const seen = new Set(Array.from(patches, (value) => Math.round((value + 0.2) * 255)));
  expect([0, 51, 100, 200].every((colour) => seen.has(colour))).toBe(true);
});

test("sizes written as plain numbers mean the same", () => {
  const short = new ClipImageProcessor({ size: 20, crop_size: 20, ...neutral }, settings);
  const long = new ClipImageProcessor({ ...file, ...neutral }, settings);
  expect(short.processPixels(striped(30, 20), "")).toEqual(long.processPixels(striped(30, 20), ""));
});

test("a picture brought to one size whatever its shape needs no crop", () => {
  const processor = new ClipImageProcessor({ size: { height: 20, width: 20 }, ...neutral }, settings);
  const { patches } = processor.processPixels(striped(60, 20), "");
  const seen = new Set(Array.from(patches, (value) => Math.round(value * 255)));
  expect([0, 100, 200].every((colour) => seen.has(colour))).toBe(true);
});

describe("a file is refused that", () => {
  test.each([
    [
      "cuts out another size than the tower takes",
      { ...file, crop_size: 24 },
      /crop_size is 24 by 24, .* takes 20 by 20/,
    ],
    ["cuts nothing and says no size", { size: { shortest_edge: 20 }, do_center_crop: false }, /size is missing/],
    ["has no crop_size", { size: { shortest_edge: 20 } }, /crop_size is missing/],
    ["scales to less than it cuts out", { ...file, size: { shortest_edge: 10 } }, /size 10 is less than crop_size 20/],
    ["has no size", { crop_size: 20 }, /preprocessor_config\.json: size/],
  ])("%s", (_what, given, message) => {
    expect(() => new ClipImageProcessor(given, settings)).toThrow(message);
  });
});

test("a picture that is too thin is named", () => {
  const processor = new ClipImageProcessor(file, settings);
  expect(() => processor.processPixels(striped(402, 2), "strip.png")).toThrow(/^picture strip\.png cannot be used: /);
});
