import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { countParameters } from "../../src/catalogue/parameters.ts";
import { architectures } from "./architectures.ts";
import { band, compareAll } from "./compare.ts";
import { outliers } from "./outliers.ts";
import { memoryTable } from "./table.ts";

const comparisons = compareAll();

test("at least 85 % of the published figures are predicted within −10 % and +30 %", () => {
  const within = comparisons.filter((comparison) => comparison.isWithin).length;
  expect(comparisons.length).toBeGreaterThan(140);
  expect(within / comparisons.length).toBeGreaterThanOrEqual(0.85);
});

test("every row outside the band is listed with its reason, and no other", () => {
  const outside = comparisons.filter((comparison) => !comparison.isWithin).map((comparison) => comparison.row.id);
  expect(outside.toSorted()).toEqual(Object.keys(outliers).toSorted());
});

test("no row of fixed or packed length is under-predicted by more than 10 %", () => {
  const under = comparisons
    .filter(({ row, difference }) => row.fixedLength === true && difference < band.low)
    .map(({ row, predicted }) => `${row.id}: ${predicted}`);
  expect(under).toEqual([]);
});

describe("models outside the catalogue have the parameter count that their makers state", () => {
  test.each([
    ["Qwen-7B", 7.72],
    ["Qwen-14B", 14.17],
    ["Qwen-72B", 72.3],
    ["Qwen-VL", 9.6],
    ["Qwen2.5-7B", 7.62],
    ["Qwen2.5-14B", 14.8],
    ["Qwen3.5-0.8B", 0.853],
    ["Qwen3.5-2B", 2.213],
    ["Llama-3.2-1B", 1.24],
    ["Llama-3.2-11B-Vision", 10.7],
    ["Pixtral-12B", 12.7],
    ["Magistral-24B", 24],
    ["nanoVLM-222M", 0.222],
  ] as const)("%s has %d billion", (name, billions) => {
    const ratio = countParameters(architectures[name]).total / (billions * 1e9);
    expect(Math.abs(ratio - 1)).toBeLessThan(0.015);
  });
});

test("the table of the decision page is the one that the script prints", () => {
  const page = readFileSync(new URL("../../../../docs/decisions/0003-memory-model.md", import.meta.url), "utf8");
  expect(page).toContain(memoryTable());
});
