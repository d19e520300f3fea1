import { expect, test } from "vitest";
import { shardOf, type Collective, type NumberArray } from "../collectives/collective.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { RankUpdate, type TrainedValues } from "./rank-update.ts";

/** A rank among two whose other one has the same gradients: sums are twice what is given. Notes what is asked of it. */
class Twin implements Collective {
  readonly rank: number;
  readonly worldSize = 2;
  readonly asked: string[] = [];

  constructor(rank: number) {
    this.rank = rank;
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    this.asked.push(`sum of ${buffers.map(({ length }) => length).join("+")}`);
    for (const buffer of buffers)
      for (let index = 0; index < buffer.length; index++) buffer[index] = 2 * (buffer[index] as number);
    await Promise.resolve();
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.allReduceSum(buffers);
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    this.asked.push(`values of ${buffers.map(({ length }) => length).join("+")}`);
    await Promise.resolve();
  }

  async broadcast(): Promise<void> {
    await Promise.resolve();
  }

  async barrier(): Promise<void> {
    await Promise.resolve();
  }

  async close(): Promise<void> {
    await Promise.resolve();
  }
}

function tensor(name: string, length: number): TrainedValues {
  return {
    name,
    shape: [length],
    values: sharedFloats(length),
    gradient: sharedFloats(length).fill(1),
    isDecayed: false,
  };
}

/** Three of 16 MB and one of 4 bytes: two fill a bucket of 25 MB. */
const tensors = (): TrainedValues[] => [...["a", "b", "c"].map((name) => tensor(name, 4_000_000)), tensor("d", 1)];
const [pair, rest] = ["sum of 4000000+4000000", "sum of 4000000+1"];

test("a bucket is summed as soon as its gradients are final, and buckets in the same order on every rank", async () => {
  const ranks = new Twin(0);
  const own = tensors();
  const update = new RankUpdate(own, { all: ranks, sameTensors: ranks, isSharded: false });
  update.completed(["c", "d"]);
  expect(ranks.asked).toEqual([]);
  update.completed(["a"]);
  expect(ranks.asked).toEqual([]);
  update.completed(["b"]);
  expect(ranks.asked).toEqual([pair, rest]);
  const counts = Float64Array.of(3, 4);
  await update.reduce(counts, true);
  expect([...counts]).toEqual([6, 8]);
  expect(own.map(({ gradient }) => gradient[0])).toEqual([2, 2, 2, 2]);
});

test("the next step begins with every bucket open; what nobody told of is summed at the end", async () => {
  const ranks = new Twin(0);
  const update = new RankUpdate(tensors(), { all: ranks, sameTensors: ranks, isSharded: false });
  update.completed(["a", "b"]);
  await update.reduce(Float64Array.of(0), true);
  expect(ranks.asked).toEqual([pair, rest, "sum of 1"]);
  ranks.asked.length = 0;
  update.completed(["a"]);
  expect(ranks.asked).toEqual([]);
  await update.reduce(Float64Array.of(0), true);
  expect(ranks.asked).toEqual([pair, rest, "sum of 1"]);
});

test("a rank without a row gives zeros to every bucket", async () => {
  const ranks = new Twin(0);
  const own = tensors();
  await new RankUpdate(own, { all: ranks, sameTensors: ranks, isSharded: false }).reduce(Float64Array.of(0), false);
  expect(own.map(({ gradient }) => gradient[0])).toEqual([0, 0, 0, 0]);
});

test.each([0, 1])("sharded, rank %i updates its shard of every bucket", (rank) => {
  const ranks = new Twin(rank);
  const { parts } = new RankUpdate(tensors(), { all: ranks, sameTensors: ranks, isSharded: true });
  const second = shardOf(4_000_001, rank, 2);
  expect(parts.map(({ name, start, values }) => [name, start, values.length])).toEqual(
    rank === 0
      ? [
          ["a", 0, 4_000_000],
          ["c", 0, second.end],
        ]
      : [
          ["b", 0, 4_000_000],
          ["c", second.start, 4_000_000 - second.start],
          ["d", 0, 1],
        ],
  );
});
