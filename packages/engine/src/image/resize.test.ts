import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { smartResize } from "@drydock/spec";
import { describe, expect, test } from "vitest";
import type { RgbImage } from "./decode-image.ts";
import { resizeBicubic, type PassOrder } from "./resize.ts";

type Size = readonly [number, number];

interface ResizeCase {
  readonly seed: number;
  readonly from: Size;
  readonly to: Size;
  readonly horizontalFirst: string;
  readonly pillow13: string;
}

async function golden<T>(name: string): Promise<readonly T[]> {
  const path = resolve(import.meta.dirname, "../../../../test/golden/images", name);
  return JSON.parse(await readFile(path, "utf8")) as readonly T[];
}

const resizes = await golden<ResizeCase>("resize.json");
const smartResizes = await golden<{ factor: number; bounds: Size; from: Size; to: Size }>("smart-resize.json");

/** The generator of `test/golden/make_images.py`. */
function noise([width, height]: Size, seed: number): RgbImage {
  let state = seed;
  const data = Uint8Array.from({ length: width * height * 3 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
  return { width, height, data };
}

function digestOf({ seed, from, to }: ResizeCase, order: PassOrder): string {
  return createHash("sha256")
    .update(resizeBicubic(noise(from, seed), ...to, order).data)
    .digest("hex");
}

describe.each(resizes)("$from to $to", (golden) => {
  test("has Pillow's bytes, rows first", () =>
    expect(digestOf(golden, "horizontal-first")).toBe(golden.horizontalFirst));
  test("has the bytes of Pillow 13", () => expect(digestOf(golden, "pillow-13")).toBe(golden.pillow13));
});

test("the order of the passes matters for some of the sizes", () => {
  expect(resizes.some(({ horizontalFirst, pillow13 }) => horizontalFirst !== pillow13)).toBe(true);
});

test("sizes after smart_resize are those of transformers", () => {
  for (const { factor, bounds, from, to } of smartResizes) {
    const resized = smartResize({ width: from[0], height: from[1] }, factor, {
      minPixels: bounds[0],
      maxPixels: bounds[1],
    });
    expect([resized.width, resized.height], `${from.join("×")} factor ${factor}`).toEqual(to);
  }
});
