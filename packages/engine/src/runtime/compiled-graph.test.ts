import { setImmediate } from "node:timers/promises";
import { expect, test } from "vitest";
import { GraphBuilder } from "../graph/build.ts";
import { CompiledGraph } from "./compiled-graph.ts";
import { sharedFloats, toShared } from "./shared-floats.ts";

const size = 1024;

async function squareOf(times: number): Promise<CompiledGraph> {
  const graph = new GraphBuilder();
  let y = graph.input("x", [size, size]);
  for (let time = 0; time < times; time++) y = graph.gemm(y, y, { alpha: 1 / size });
  return await CompiledGraph.compile({ y }, { threads: 1 });
}

test("the event loop turns while a graph runs", async () => {
  const graph = await squareOf(8);
  let isDone = false;
  let turns = 0;
  const x = { data: toShared(new Float32Array(size * size).fill(1)), shape: [size, size] };
  const run = graph.run({ x }, {}).finally(() => (isDone = true));
  while (!isDone) {
    await setImmediate();
    turns++;
  }
  expect((await run)["y"]?.[0]).toBeCloseTo(1, 5);
  expect(turns).toBeGreaterThan(100);
  await graph.close();
});

test("outputs go into the shared array that is given, inputs are left as they are", async () => {
  const graph = await squareOf(1);
  const data = toShared(new Float32Array(size * size).fill(2));
  const y = sharedFloats(size * size);
  const result = await graph.run({ x: { data, shape: [size, size] } }, {}, { y });
  expect(result["y"]).toBe(y);
  expect(y.every((value) => value === 4)).toBe(true);
  expect(data.every((value) => value === 2)).toBe(true);
  await graph.close();
});

test("a missing input is named", async () => {
  const graph = await squareOf(1);
  await expect(graph.run({}, {})).rejects.toThrow("the graph was not given x");
  await graph.close();
});

test("a fault of ONNX Runtime reaches the caller and leaves the session usable", async () => {
  const graph = await squareOf(1);
  const wrong = { x: { data: new Float32Array(4), shape: [2, 2] } };
  await expect(graph.run(wrong, {})).rejects.toThrow(/invalid dimensions/i);
  const { y } = await graph.run({ x: { data: new Float32Array(size * size), shape: [size, size] } }, {});
  expect(y?.[0]).toBe(0);
  await graph.close();
  await expect(graph.run({ x: { data: new Float32Array(size * size), shape: [size, size] } }, {})).rejects.toThrow(
    "closed",
  );
});
