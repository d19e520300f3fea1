import { expect, test } from "vitest";
import { SeededRandom } from "../training/random.ts";
import { chooseToken, mostLikely } from "./sampling.ts";

const logits = Float32Array.of(0, 3, 1, 2);
const draw = (options: Parameters<typeof chooseToken>[2], seen: readonly number[] = [], count = 300): number[] => {
  const random = new SeededRandom(1);
  return Array.from({ length: count }, () => chooseToken(logits, seen, options, random));
};

test("without a temperature the most likely token is chosen", () => {
  expect(mostLikely(logits)).toBe(1);
  expect(new Set(draw({}))).toEqual(new Set([1]));
});

test("top-k keeps the k most likely", () => {
  expect(new Set(draw({ temperature: 2, topK: 2 }))).toEqual(new Set([1, 3]));
});

test("top-p keeps the fewest that reach the sum", () => {
  expect(new Set(draw({ temperature: 1, topP: 0.6 }))).toEqual(new Set([1]));
});

test("a repetition penalty makes seen tokens less likely", () => {
  expect(new Set(draw({ repetitionPenalty: 2 }, [1]))).toEqual(new Set([3]));
});

test("the same seed draws the same tokens", () => {
  expect(draw({ temperature: 1 })).toEqual(draw({ temperature: 1 }));
});

test("frequencies follow the softmax", () => {
  const share = draw({ temperature: 1 }, [], 4000).filter((token) => token === 1).length / 4000;
  expect(share).toBeCloseTo(Math.exp(3) / (1 + Math.exp(3) + Math.exp(1) + Math.exp(2)), 1);
});
