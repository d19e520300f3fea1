import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import { GraphBuilder } from "./build.ts";
import type { WeightLocation } from "./onnx/encoder.ts";

let directory: string;
beforeAll(async () => (directory = await mkdtemp(join(tmpdir(), "drydock-in-place-"))));
afterAll(async () => await rm(directory, { recursive: true, force: true }));

/** bf16 weights `w` `[rows, 8192]` in a file with holes: row 5 is 1, all others are 0. */
async function stored(rows: number): Promise<Map<string, WeightLocation>> {
  const width = 8192;
  const file = await open(join(directory, `${rows}.bin`), "w");
  await file.truncate(rows * width * 2);
  await file.write(Buffer.from(new Uint16Array(width).fill(0x3f80).buffer), 0, width * 2, 5 * width * 2);
  await file.close();
  return new Map([["w", { file: `${rows}.bin`, offset: 0, sizeBytes: rows * width * 2, dtype: "bfloat16" }]]);
}

const residentBytes = (): number => process.memoryUsage().rss;

test("rows of a large 16-bit table are looked up where they lie: the table is not read", async () => {
  const rows = 40_000; // 655 MB in the file, 1.3 GB as float32
  const graph = new GraphBuilder();
  const y = graph.gather(graph.weight("w", [rows, 8192]), graph.input("ids", ["N"], "int64"));
  const before = residentBytes();
  const compiled = await CompiledGraph.compile(
    { y },
    { threads: 1, weights: await stored(rows), weightsDirectory: directory },
  );
  const ids = { data: BigInt64Array.of(4n, 5n), shape: [2] };
  const result = (await compiled.run({ ids }, { N: 2 }))["y"] as Float32Array;
  expect([result[8191], result[8192]]).toEqual([0, 1]);
  expect(residentBytes() - before).toBeLessThan(300e6);
  await compiled.close();
});

test("16-bit weights give the same product in place and copied", async () => {
  const graph = new GraphBuilder();
  const weight = graph.weight("w", [8, 8192]);
  const y = graph.gemm(graph.input("x", ["N", 8192]), weight, { transB: true });
  const weights = await stored(8);
  const inPlace = new Map([
    ["w", weights.get("w") as WeightLocation],
    ["unread", unread],
  ]);
  const x = { data: new Float32Array(8192).fill(2), shape: [1, 8192] };
  for (const locations of [weights, inPlace]) {
    const compiled = await CompiledGraph.compile(
      { y },
      { threads: 1, weights: locations, weightsDirectory: directory },
    );
    const result = (await compiled.run({ x }, { N: 1 }))["y"] as Float32Array;
    expect([...result]).toEqual([0, 0, 0, 0, 0, 2 * 8192, 0, 0]);
    await compiled.close();
  }
});

/** A weight that the graph does not read, which makes the model a large one. */
const unread: WeightLocation = { file: "8.bin", offset: 0, sizeBytes: 2 ** 30, dtype: "bfloat16" };
