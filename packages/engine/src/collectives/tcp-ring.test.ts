import { connect as connectSocket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { localRing } from "../../test/local-ring.ts";
import { PeerLostError, shardOf } from "./collective.ts";
import { RingListener } from "./ring-connect.ts";
import { TcpRing, type RingOptions } from "./tcp-ring.ts";

const rings: TcpRing[] = [];
const listeners: RingListener[] = [];
afterEach(async () => {
  await Promise.all(rings.splice(0).map(async (ring) => await ring.close()));
  for (const listener of listeners.splice(0)) listener.close();
});

async function ringOf(worldSize: number, change: Partial<RingOptions> = {}): Promise<TcpRing[]> {
  const made = await localRing(worldSize, change);
  rings.push(...made);
  return made;
}

/** Numbers whose float32 sum depends on the order of the additions. */
function numbersOf(rank: number, length: number): Float32Array {
  return Float32Array.from({ length }, (_, index) => Math.sin(index * 0.7 + rank) * 10 ** ((index + rank) % 7));
}

/** The sum in the ring's order: a shard's sum starts at the rank after its owner and ends at its owner. */
function sumInOrder(worldSize: number, length: number): Float32Array {
  const inputs = Array.from({ length: worldSize }, (_, rank) => numbersOf(rank, length));
  const sum = new Float32Array(length);
  for (let owner = 0; owner < worldSize; owner++) {
    const { start, end } = shardOf(length, owner, worldSize);
    for (let index = start; index < end; index++) {
      let total = inputs[(owner + 1) % worldSize]?.[index] as number;
      for (let step = 2; step <= worldSize; step++)
        total = Math.fround(total + (inputs[(owner + step) % worldSize]?.[index] as number));
      sum[index] = total;
    }
  }
  return sum;
}

function bytes(array: Float32Array): string {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64");
}

test.each([
  [2, 10_000],
  [3, 10_001],
  [4, 4096],
  [8, 9999],
  [8, 3],
  [3, 0],
])(
  "%i ranks sum %i numbers in one order: the same bytes on every rank, pieces smaller than shards",
  async (worldSize, length) => {
    const group = await ringOf(worldSize, { pieceBytes: 1024 });
    const vectors = group.map(({ rank }) => numbersOf(rank, length));
    await Promise.all(group.map(async (ring, rank) => await ring.allReduceSum([vectors[rank] as Float32Array])));
    const expected = bytes(sumInOrder(worldSize, length));
    for (const vector of vectors) expect(bytes(vector) === expected).toBe(true);
  },
);

test("many small buffers are summed as the one vector that they make, wherever pieces are cut", async () => {
  const group = await ringOf(3, { pieceBytes: 256 });
  const vectors = group.map(({ rank }) => numbersOf(rank, 1000));
  const cuts = [0, 1, 8, 8, 300, 301, 777, 1000];
  await Promise.all(
    group.map(async (ring, rank) => {
      const vector = vectors[rank] as Float32Array;
      await ring.allReduceSum(cuts.slice(1).map((end, index) => vector.subarray(cuts[index], end)));
    }),
  );
  const expected = bytes(sumInOrder(3, 1000));
  for (const vector of vectors) expect(bytes(vector) === expected).toBe(true);
});

test("a reduce-scatter gives each rank the sums of its shard, an all-gather gives every rank all of them", async () => {
  const group = await ringOf(4, { pieceBytes: 128 });
  const vectors = group.map(({ rank }) => numbersOf(rank, 1001));
  await Promise.all(group.map(async (ring, rank) => await ring.reduceScatterSum([vectors[rank] as Float32Array])));
  const expected = sumInOrder(4, 1001);
  group.forEach((_, rank) => {
    const { start, end } = shardOf(1001, rank, 4);
    expect(vectors[rank]?.subarray(start, end)).toEqual(expected.subarray(start, end));
  });
  await Promise.all(group.map(async (ring, rank) => await ring.allGather([vectors[rank] as Float32Array])));
  for (const vector of vectors) expect(bytes(vector) === bytes(expected)).toBe(true);
});

test.each([0, 2])("a broadcast gives every rank the numbers of rank %i", async (root) => {
  const group = await ringOf(3, { pieceBytes: 512 });
  const vectors = group.map(({ rank }) => numbersOf(rank, 1000));
  await Promise.all(group.map(async (ring, rank) => await ring.broadcast([vectors[rank] as Float32Array], root)));
  for (const vector of vectors) expect(vector).toEqual(numbersOf(root, 1000));
});

test("operations that are asked for at once run one after another, float64 among them", async () => {
  const group = await ringOf(2);
  const results = await Promise.all(
    group.map(async (ring, rank) => {
      const counts = Float64Array.of(2 ** 40 + rank, rank);
      const values = Float32Array.of(rank + 1);
      await Promise.all([ring.allReduceSum([counts]), ring.barrier(), ring.allReduceSum([values])]);
      return [...counts, ...values];
    }),
  );
  expect(results).toEqual([
    [2 ** 41 + 1, 1, 3],
    [2 ** 41 + 1, 1, 3],
  ]);
});

test("a barrier ends when the last rank has come", async () => {
  const group = await ringOf(3);
  const passed: number[] = [];
  const early = group.slice(0, 2).map(async (ring) => {
    await ring.barrier();
    passed.push(ring.rank);
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(passed).toEqual([]);
  await Promise.all([...early, group[2]?.barrier()]);
  expect(new Set(passed)).toEqual(new Set([0, 1]));
});

test("2(n-1)/n of the bytes go over the wire, and less than one per cent more", async () => {
  const group = await ringOf(4);
  const length = 1 << 20;
  await Promise.all(group.map(async (ring) => await ring.allReduceSum([new Float32Array(length)])));
  const minimum = ((2 * 3) / 4) * length * 4;
  for (const ring of group) {
    expect(ring.traffic().sentBytes).toBeGreaterThanOrEqual(minimum);
    expect(ring.traffic().sentBytes).toBeLessThan(minimum * 1.01);
  }
});

test("a rank that gives up is named, with its reason, by every other rank, and by all that they try later", async () => {
  const group = await ringOf(4);
  const waiting = Promise.allSettled(group.filter(({ rank }) => rank !== 2).map(async (ring) => await ring.barrier()));
  await group[2]?.close("row 17 has an empty answer");
  for (const result of await waiting) {
    expect(result).toMatchObject({
      status: "rejected",
      reason: expect.objectContaining({ lostRank: 2, message: "rank 2 was lost: row 17 has an empty answer" }),
    });
  }
  await expect(group[0]?.barrier()).rejects.toBeInstanceOf(PeerLostError);
});

test("a rank that has finished may leave while others still work on what they need not it for", async () => {
  const group = await ringOf(3);
  await Promise.all(
    group.map(async (ring) => {
      await ring.allReduceSum([new Float32Array(100_000)]);
      await ring.close();
    }),
  );
  await expect(group[1]?.barrier()).rejects.toThrow("rank 1 was lost: it has left the ring");
});

test("a rank that misses one which has left is told who", async () => {
  const group = await ringOf(3);
  await group[1]?.close();
  const results = await Promise.allSettled([group[0]?.barrier(), group[2]?.barrier()]);
  expect(results).toMatchObject([
    { status: "rejected", reason: expect.objectContaining({ lostRank: 1 }) },
    { status: "rejected", reason: expect.objectContaining({ lostRank: 1 }) },
  ]);
});

test("ranks that do not do the same are told so instead of adding what does not belong together", async () => {
  const group = await ringOf(2);
  const results = await Promise.allSettled([
    group[0]?.allReduceSum([new Float32Array(10)]),
    group[1]?.allReduceSum([new Float32Array(12)]),
  ]);
  expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  const messages = results.map((result) => (result.status === "rejected" ? String(result.reason) : ""));
  expect(messages.join("\n")).toMatch(/it sent all-reduce 1 of 1[02] elements, piece 0, where this rank expects/);
});

test("strangers are refused and the ring closes nevertheless: wrong token, other attempt, garbage", async () => {
  const opened = await Promise.all([RingListener.open("127.0.0.1"), RingListener.open("127.0.0.1")]);
  listeners.push(...opened);
  const peers = opened.map(({ address }) => address);
  const port = Number(peers[0]?.split(":")[1]);
  const garbage = connectSocket(port, "127.0.0.1");
  garbage.write("GET / HTTP/1.1\r\nHost: drydock\r\n\r\nlonger than a hello, by far");
  garbage.on("error", () => undefined);
  const hungUp = new Promise((resolve) => garbage.once("close", resolve));
  const connectAs = async (rank: 0 | 1, change: Partial<RingOptions>): Promise<TcpRing> =>
    await TcpRing.connect(opened[rank], { rank, peers, epoch: 2, token: "secret", connectMs: 10_000, ...change });
  const first = connectAs(0, {});
  const stranger = TcpRing.connect(await listen(), { rank: 1, peers, epoch: 2, token: "guessed", connectMs: 300 });
  await expect(stranger).rejects.toThrow(
    /^rank 0 was lost: it could not be reached at 127\.0\.0\.1:\d+: it (does not know the attempt's token|hung up|did not answer)/,
  );
  const stale = TcpRing.connect(await listen(), { rank: 1, peers, epoch: 1, token: "secret", connectMs: 300 });
  await expect(stale).rejects.toThrow("rank 0 was lost: it could not be reached");
  const both = await Promise.all([first, connectAs(1, {})]);
  rings.push(...both);
  await Promise.all(both.map(async (ring) => await ring.barrier()));
  await hungUp;
});

async function listen(): Promise<RingListener> {
  const listener = await RingListener.open("127.0.0.1");
  listeners.push(listener);
  return listener;
}

test("a rank that never comes is named, with its address", async () => {
  const listener = await listen();
  const gone = await RingListener.open("127.0.0.1");
  gone.close();
  const peers = [listener.address, "127.0.0.1:1"];
  await expect(
    TcpRing.connect(listener, { rank: 0, peers, epoch: 1, token: "secret", connectMs: 200 }),
  ).rejects.toThrow(/^rank 1 was lost: it (could not be reached at 127\.0\.0\.1:1: |did not connect in time)/);
});
