import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import koffi from "koffi";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { localRing } from "../../../test/local-ring.ts";
import { shardOf, type NumberArray } from "../collective.ts";
import { NcclCollective } from "./nccl-collective.ts";
import { NcclLibrary } from "./nccl-library.ts";

/*
 * There is no GPU here: NVIDIA's libraries are stood in for by one in C that refuses what theirs refuse. What is tested are
 * the calls, their order and their arguments, not NCCL.
 */
let root: string;
let path: string;
let library: NcclLibrary;
let fake: { asyncError(error: number): void; refuseNext(error: number): void; deviceBytes(): number };
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-fake-nccl-"));
  path = join(root, "libfake.so");
  const source = join(import.meta.dirname, "../../../test/fake-nccl/fake-nccl.c");
  await promisify(execFile)("cc", ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", path, source]);
  library = new NcclLibrary({ nccl: path, cudaRuntime: path });
  const handle = koffi.load(path);
  fake = {
    asyncError: handle.func("void fakeAsyncError(int error)"),
    refuseNext: handle.func("void fakeRefuseNext(int error)"),
    deviceBytes: handle.func("int fakeDeviceBytes(void)"),
  };
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

const collectives: NcclCollective[] = [];
afterEach(async () => {
  fake.asyncError(0);
  await leave();
});

async function leave(): Promise<void> {
  await Promise.all(collectives.splice(0).map(async (collective) => await collective.close()));
}

async function ranks(worldSize: number): Promise<NcclCollective[]> {
  const rings = await localRing(worldSize);
  const made = await Promise.all(
    rings.map(async (ring) => await NcclCollective.connect(ring, { library, device: ring.rank })),
  );
  collectives.push(...made);
  return made;
}

/** Whole numbers, whose sums are exact in any order. */
function numbersOf(rank: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, index) => ((index * 7 + rank * 13) % 101) - 50);
}

function sumsOf(worldSize: number, length: number): Float32Array {
  const sums = new Float32Array(length);
  for (let rank = 0; rank < worldSize; rank++)
    numbersOf(rank, length).forEach((value, index) => (sums[index] = (sums[index] as number) + value));
  return sums;
}

async function onAll(
  group: readonly NcclCollective[],
  work: (collective: NcclCollective) => Promise<void>,
): Promise<void> {
  await Promise.all(group.map(work));
}

// Long enough to go over the device, and no multiple of the ranks.
const length = 20_001;

test.each([2, 3, 8])("%i ranks sum vectors of several buffers on the device", async (worldSize) => {
  const group = await ranks(worldSize);
  const expected = sumsOf(worldSize, length);
  await onAll(group, async (collective) => {
    const vector = numbersOf(collective.rank, length);
    const parts: NumberArray[] = [vector.subarray(0, 3), vector.subarray(3, 3), vector.subarray(3)];
    await collective.allReduceSum(parts);
    expect(vector).toEqual(expected);
  });
  expect(fake.deviceBytes()).toBeGreaterThan(0);
  await leave();
  expect(fake.deviceBytes()).toBe(0);
});

test("shards are summed, then gathered; the last one is shorter", async () => {
  const group = await ranks(3);
  const expected = sumsOf(3, length);
  await onAll(group, async (collective) => {
    const vector = numbersOf(collective.rank, length);
    await collective.reduceScatterSum([vector]);
    const { start, end } = shardOf(length, collective.rank, 3);
    expect(vector.subarray(start, end)).toEqual(expected.subarray(start, end));
    await collective.allGather([vector]);
    expect(vector).toEqual(expected);
  });
});

test("a broadcast gives every rank what its root has, float64 too", async () => {
  const group = await ranks(3);
  await onAll(group, async (collective) => {
    const vector = Float64Array.from(numbersOf(collective.rank, length));
    await collective.broadcast([vector], 2);
    expect(vector).toEqual(Float64Array.from(numbersOf(2, length)));
  });
});

test("small vectors do not go to the device", async () => {
  const group = await ranks(2);
  await onAll(group, async (collective) => {
    const counts = Float64Array.of(collective.rank + 1);
    await collective.allReduceSum([counts]);
    await collective.barrier();
    expect([...counts]).toEqual([3]);
  });
  expect(fake.deviceBytes()).toBe(0);
});

test("a rank that is lost while the others wait on the device is named, and the wait is ended", async () => {
  const group = await ranks(3);
  const waiting = [0, 1].map(async (rank) => await group[rank]?.allReduceSum([numbersOf(rank, length)]));
  const settled = Promise.allSettled(waiting);
  await group[2]?.close("it ran out of memory");
  collectives.pop();
  expect(await settled).toMatchObject([
    { reason: { lostRank: 2, message: "rank 2 was lost: it ran out of memory" } },
    { reason: { lostRank: 2, message: "rank 2 was lost: it ran out of memory" } },
  ]);
});

test("an error that NCCL reports on its way ends the operation with NCCL's words", async () => {
  const group = await ranks(2);
  fake.asyncError(6);
  await expect(group[0]?.allReduceSum([numbersOf(0, length)])).rejects.toThrow(
    "NCCL gave up: remote process exited or there was a network error",
  );
});

test("a refused call names itself and says why", async () => {
  const group = await ranks(2);
  fake.refuseNext(5);
  await expect(group[0]?.allReduceSum([numbersOf(0, length)])).rejects.toThrow("ncclAllReduce failed: invalid usage");
  const [ring] = await localRing(2);
  if (!ring) throw new Error("no ring");
  await expect(NcclCollective.connect(ring, { library, device: 99 })).rejects.toThrow(
    "cudaSetDevice failed: invalid device ordinal",
  );
  await ring.close("no device");
});

test("a machine without the libraries is told what to install", () => {
  expect(() => new NcclLibrary({ nccl: "libnccl-of-nobody.so.2", cudaRuntime: path })).toThrow(
    /^libnccl-of-nobody\.so\.2 cannot be loaded \(.*\): install NVIDIA's NCCL and CUDA runtime in the worker's image, or sum over TCP with DRYDOCK_COLLECTIVE=tcp$/,
  );
});
