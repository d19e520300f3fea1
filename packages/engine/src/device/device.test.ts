import { afterAll, beforeAll, expect, test } from "vitest";
import { GraphBuilder } from "../graph/build.ts";
import { encodeOnnx } from "../graph/onnx/encode-onnx.ts";
import { sharedFloats, toShared } from "../runtime/shared-floats.ts";
import { Device } from "./device.ts";

let device: Device;
beforeAll(async () => (device = await Device.start({ kind: "cpu", index: 0, threads: 1, matrices: "float32" })));
afterAll(async () => await device.close());

const floats = (name: string, values: readonly number[], shape: readonly number[] = [values.length]) => ({
  name,
  data: toShared(Float32Array.from(values)),
  shape,
  type: "float32" as const,
});
const nothing = { feeds: [], stored: {}, inPlace: {}, kept: {}, wanted: [] };

async function read(name: string, length: number): Promise<number[]> {
  const into = sharedFloats(length);
  await device.get(name, into, [length]);
  return [...into];
}

/** y = a + b, z = a·b. */
async function sumAndProduct(): Promise<number> {
  const graph = new GraphBuilder();
  const [a, b] = [graph.input("a", ["n"]), graph.input("b", ["n"])];
  return await device.open(encodeOnnx({ y: graph.add(a, b), z: graph.mul(a, b) }).model);
}

test("an array that is put on the device comes back as it was", async () => {
  await device.put(floats("there", [1, -2.5, 3e-30]));
  expect(await read("there", 3)).toEqual([1, -2.5, Math.fround(3e-30)]);
  await device.put(floats("there", [7]));
  expect(await read("there", 1)).toEqual([7]);
  await expect(read("there", 2)).rejects.toThrow("there has 4 bytes on the device, not 8");
});

test("outputs stay on the device, are written in place, or come back, as each is asked for", async () => {
  const session = await sumAndProduct();
  await device.put(floats("a", [1, 2, 3]));
  const host = await device.run({
    ...nothing,
    session,
    feeds: [floats("b", [10, 20, 30])],
    stored: { a: "a" },
    kept: { y: "sum" },
    wanted: [{ name: "z", shape: [3] }],
  });
  expect([...(host["z"] as Float32Array)]).toEqual([10, 40, 90]);
  expect(await read("sum", 3)).toEqual([11, 22, 33]);
  // In place: the array that is read is the one that is written.
  await device.run({
    ...nothing,
    session,
    feeds: [floats("b", [1, 1, 1])],
    stored: { a: "sum" },
    inPlace: { y: "sum" },
    kept: { z: "z" },
  });
  expect(await read("sum", 3)).toEqual([12, 23, 34]);
  // An output may replace the array that the run read.
  await device.put(floats("z2", [5, 6]));
  await device.run({
    ...nothing,
    session,
    feeds: [floats("b", [2, 2])],
    stored: { a: "z2" },
    kept: { y: "z2", z: "z" },
  });
  expect(await read("z2", 2)).toEqual([7, 8]);
  expect(await read("z", 2)).toEqual([10, 12]);
  await device.closeSession(session);
});

test("what is dropped is gone, and what is held is counted", async () => {
  const before = await device.count();
  await device.put(floats("more", [1, 2, 3, 4]));
  expect(await device.count()).toMatchObject({ tensors: before.tensors + 1, bytes: before.bytes + 16 });
  await device.drop(["more"]);
  expect(await device.count()).toMatchObject(before);
  await expect(read("more", 4)).rejects.toThrow("nothing on the device is called more");
});

test("a fault of a run names the call and leaves the device usable", async () => {
  const session = await sumAndProduct();
  const run = device.run({
    ...nothing,
    session,
    feeds: [floats("a", [1, 2]), floats("b", [1, 2, 3])],
    wanted: [{ name: "y", shape: [2] }],
  });
  await expect(run).rejects.toThrow(/ONNX Runtime's RunWithBinding failed/);
  await device.put(floats("after", [4]));
  expect(await read("after", 1)).toEqual([4]);
  await device.closeSession(session);
});

test("memory of many runs is given back", async () => {
  const session = await sumAndProduct();
  const size = 100_000;
  await device.put({ name: "big", data: sharedFloats(size), shape: [size], type: "float32" });
  const feeds = [{ name: "b", data: sharedFloats(size), shape: [size], type: "float32" as const }];
  const run = async () =>
    await device.run({ ...nothing, session, feeds, stored: { a: "big" }, kept: { y: "big", z: "other" } });
  for (let index = 0; index < 50; index++) await run();
  const before = process.memoryUsage.rss();
  for (let index = 0; index < 400; index++) await run();
  expect(process.memoryUsage.rss() - before).toBeLessThan(60e6); // 400 leaked pairs would be 320 MB
  await device.closeSession(session);
});

test("a device that is not there is told with what to install", async () => {
  const cuda = Device.start({ kind: "cuda", index: 99, threads: 1, matrices: "float32" });
  await expect(cuda).rejects.toThrow(/cannot use cuda device 99: .*see docs\/guides\/gpu\.md/s);
});
