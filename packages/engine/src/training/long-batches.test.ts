import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tinyVisionConfig, twoRows } from "../../test/tiny-vision-model.ts";
import { arrayLimits, logitElements, longRow } from "../batch/array-limits.ts";
import type { Node } from "../graph/ops.ts";
import { topologicalOrder } from "../graph/topological-order.ts";
import { createRandomModel } from "../models/random-model.ts";
import { openModel } from "../models/families.ts";
import { gradientsOf } from "./gradients-of.ts";
import { trainingGraph } from "./training-graph.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "drydock-long-"));
  await createRandomModel(tinyVisionConfig, directory, 1);
});
afterAll(async () => await rm(directory, { recursive: true, force: true }));

test.each([
  ["in one piece", false],
  ["layer by layer", true],
])("attention and loss piece by piece give the gradients of whole arrays, %s", async (_how, recomputes) => {
  const batch = twoRows();
  const whole = await gradientsOf(directory, batch, recomputes);
  const pieces = await gradientsOf(directory, batch, recomputes, { attention: 600, logits: 200 });
  expect(pieces.loss).toBeCloseTo(whole.loss, 5);
  for (const [name, values] of whole.gradients) {
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-4);
    const difference = (pieces.gradients.get(name) as Float32Array).reduce(
      (most, value, at) => Math.max(most, Math.abs(value - (values[at] as number))),
      0,
    );
    expect(difference / largest, name).toBeLessThan(1e-5);
  }
});

/** Shapes of all arrays of a graph, those inside its pieces too. */
function shapesOf(roots: readonly Node[]): string[] {
  return topologicalOrder(roots).flatMap((node) => [
    ...[node.shape, ...node.furtherShapes].map((shape) => shape.join()),
    ...(node.body ? shapesOf([...node.body.joined, ...node.body.summed]) : []),
  ]);
}

test("a limited pass has no array of all queries and keys, nor of all logits, forward or backward", () => {
  const model = openModel(tinyVisionConfig);
  const shapes = (limits: object): string[] =>
    shapesOf(Object.values(trainingGraph(model, true, () => false, lora, false, limits).outputs));
  const lora = {
    dropout: 0,
    modules: new Map([["model.language_model.layers.0.self_attn.q_proj", { rank: 2, scale: 1 }]]),
    usesDora: false,
    whole: new Set<string>(),
  };
  const isLarge = (shape: string): boolean => /T,T$|L,50$|4\*Q,4\*Q$/.test(shape);
  expect(shapes({}).filter(isLarge).length).toBeGreaterThan(5);
  expect(shapes({ attention: 1 << 20, logits: 1 << 20 }).filter(isLarge)).toEqual([]);
});

test("limits are set for long rows, large pictures and many logits only", () => {
  const batch = twoRows();
  const few = { rows: 10, vocabulary: 50, headGradient: 0 };
  expect(arrayLimits(batch, few)).toEqual({});
  expect(arrayLimits({ ...batch, sequenceLength: longRow + 1 }, few)).toHaveProperty("attention");
  const grid = { time: 1, height: 34, width: 34 };
  expect(arrayLimits({ ...batch, pictures: [{ grid, tokens: 289, row: 0 }] }, few)).toHaveProperty("attention");
  const many = { rows: logitElements / 32 + 1, vocabulary: 32, headGradient: 0 };
  expect(arrayLimits(batch, many)).toEqual({ logits: logitElements });
  expect(arrayLimits(batch, { ...many, headGradient: logitElements })).toEqual({});
  expect(arrayLimits(batch, { ...many, rows: logitElements, headGradient: logitElements })).toEqual({
    logits: 2 * logitElements,
  });
});
