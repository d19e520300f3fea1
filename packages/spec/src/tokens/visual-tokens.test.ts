import { describe, expect, test } from "vitest";
import { findModel } from "../catalogue/catalogue.ts";
import type { VisualTokenScheme } from "../catalogue/architecture.ts";
import { roundHalfToEven, smartResize } from "./smart-resize.ts";
import { tileCount, tileGrid } from "./tile-grid.ts";
import { pictureCost } from "./visual-tokens.ts";

function scheme(name: string): VisualTokenScheme {
  const found = findModel(name)?.architecture.visualTokens;
  if (found === undefined || found === null) throw new Error(`${name} has no token scheme`);
  return found;
}

/** Bounds of qwen-vl-utils: 4 to 16,384 tokens. */
const bounds = (factor: number, maxPixels?: number): { minPixels: number; maxPixels: number } => ({
  minPixels: 4 * factor ** 2,
  maxPixels: maxPixels ?? 16_384 * factor ** 2,
});

describe("smart_resize gives the reference's golden values", () => {
  test.each([
    // height, width, factor, bound → height, width, tokens
    [480, 640, 28, undefined, 476, 644, 391],
    [480, 640, 32, undefined, 480, 640, 300],
    [1080, 1920, 28, undefined, 1092, 1932, 2691],
    [1080, 1920, 32, undefined, 1088, 1920, 2040],
    [3024, 4032, 28, undefined, 3024, 4032, 15_552],
    [3024, 4032, 32, undefined, 3008, 4032, 11_844],
    [3024, 4032, 28, 1024 * 28 ** 2, 756, 1008, 972],
    [3024, 4032, 32, 1024 * 32 ** 2, 864, 1152, 972],
    [3024, 4032, 28, 262_144, 420, 588, 315],
    [3024, 4032, 32, 262_144, 416, 576, 234],
    [224, 224, 28, undefined, 224, 224, 64],
    [224, 224, 32, undefined, 224, 224, 49],
    [20, 20, 28, undefined, 56, 56, 4],
    [20, 20, 32, undefined, 64, 64, 4],
    [100, 2000, 28, undefined, 112, 1988, 284],
    [100, 2000, 32, undefined, 96, 1984, 186],
    [70, 98, 28, undefined, 56, 112, 8],
    [70, 98, 32, undefined, 64, 96, 6],
  ])(
    "%d×%d at factor %d within %s → %d×%d, %d tokens",
    (height, width, factor, maxPixels, resizedHeight, resizedWidth, tokens) => {
      const resized = smartResize({ width, height }, factor, bounds(factor, maxPixels));
      expect(resized).toEqual({ width: resizedWidth, height: resizedHeight });
      expect((resized.width * resized.height) / factor ** 2).toBe(tokens);
    },
  );

  test.each([
    [2160, 3840, 2156, 3836],
    [720, 1280, 728, 1288],
    [1280, 800, 1288, 812],
    [1680, 1050, 1680, 1064],
    [1440, 3440, 1428, 3444],
    [768, 1366, 756, 1372],
    [768, 1024, 756, 1036],
    [10_000, 10_000, 3556, 3556],
    [10, 1500, 28, 700],
    [13, 900, 28, 476],
    [1200, 13, 560, 28],
  ])("with the published bounds of Qwen2.5-VL %d×%d → %d×%d", (height, width, resizedHeight, resizedWidth) => {
    expect(smartResize({ width, height }, 28, { minPixels: 3136, maxPixels: 12_845_056 })).toEqual({
      width: resizedWidth,
      height: resizedHeight,
    });
  });

  test("a side 200.1 times the other is refused with both sizes and the limit", () => {
    expect(() => smartResize({ width: 2001, height: 10 }, 28, bounds(28))).toThrow(
      /2001×10 pixels.*200\.1.*at most 200.*Crop it/,
    );
  });

  test("halves round to the even neighbour", () => {
    expect([0.5, 1.5, 2.5, 3.5, 2.4, 2.6].map(roundHalfToEven)).toEqual([0, 2, 2, 4, 2, 3]);
  });
});

test.each([
  [20, 20, 64],
  [70, 98, 70],
])("the published bounds of Qwen3-VL make %d×%d cost %d visual tokens", (height, width, tokens) => {
  expect(pictureCost(scheme("qwen3-vl-4b"), { width, height }).placeholderTokens).toBe(tokens);
});

describe("InternVL and NVILA cut pictures into the reference's tiles", () => {
  test.each([
    [480, 640, 4, 3, 13],
    [1080, 1920, 4, 2, 9],
    [448, 448, 1, 1, 1],
    [2000, 500, 1, 4, 5],
    [900, 900, 2, 2, 5],
  ])("%d×%d → %d columns × %d rows, %d tiles with the thumbnail", (height, width, columns, rows, tiles) => {
    const grid = tileGrid({ width, height }, 448, 1, 12);
    expect(grid).toEqual({ columns, rows });
    expect(tileCount(grid)).toBe(tiles);
  });

  test("an InternVL tile costs 256 tokens and 1,024 patches", () => {
    expect(pictureCost(scheme("internvl3.5-8b"), { width: 640, height: 480 })).toEqual({
      placeholderTokens: 3328,
      tokens: 3330,
      patches: 13 * 1024,
      patchesPerSegment: 1024,
    });
  });

  test("an NVILA tile costs 121 features, an end token and a newline", () => {
    expect(pictureCost(scheme("nvila-lite-2b"), { width: 448, height: 448 })).toMatchObject({
      placeholderTokens: 121,
      tokens: 123,
    });
    expect(pictureCost(scheme("nvila-lite-2b"), { width: 640, height: 480 })).toMatchObject({
      placeholderTokens: 13 * 121,
      tokens: 13 * 123,
    });
  });

  test("the run's maxPixels lowers the number of tiles", () => {
    expect(
      pictureCost(scheme("internvl3.5-8b"), { width: 640, height: 480 }, { maxPixels: 4 * 448 ** 2 }).placeholderTokens,
    ).toBeLessThanOrEqual(5 * 256);
    expect(pictureCost(scheme("internvl3.5-8b"), { width: 640, height: 480 }, { maxPixels: 1 }).placeholderTokens).toBe(
      256,
    );
  });
});

test("the run's own pixel bounds take the place of the model's", () => {
  const cost = pictureCost(scheme("qwen3-vl-8b"), { width: 4032, height: 3024 }, { maxPixels: 262_144 });
  expect(cost).toEqual({ placeholderTokens: 234, tokens: 236, patches: 936, patchesPerSegment: 936 });
});
