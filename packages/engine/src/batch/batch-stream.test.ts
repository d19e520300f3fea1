import { expect, test } from "vitest";
import { BatchStream } from "./batch-stream.ts";
import { RowOrder } from "./row-order.ts";

const ascending = (left: number, right: number): number => left - right;
const options = { rowsPerBatch: 3, ahead: 4 };

function stream(
  load: (rows: readonly number[]) => Promise<readonly number[]> = async (rows) => rows,
): BatchStream<readonly number[]> {
  return new BatchStream(new RowOrder(10, "shuffled", 5), load, options);
}

async function take(count: number, from: BatchStream<readonly number[]>): Promise<(readonly number[])[]> {
  const taken: (readonly number[])[] = [];
  for (let index = 0; index < count; index++) taken.push(await from.next());
  return taken;
}

test.each([0, 1, 3, 4, 9])("stopped after %d batches and restored, the next ones are identical", async (count) => {
  const expected = (await take(14, stream())).slice(count);
  const stopped = stream();
  await take(count, stopped);
  const restored = stream();
  restored.restore(stopped.state());
  expect(await take(14 - count, restored)).toEqual(expected);
});

test("what is loaded ahead does not change the order", async () => {
  const order = new RowOrder(10, "shuffled", 5);
  expect(await take(8, stream())).toEqual(Array.from({ length: 8 }, () => order.next(3)));
});

test("the next batches are loading while one is in use", async () => {
  let started = 0;
  const ahead = stream(async (rows) => {
    started += 1;
    return rows;
  });
  await ahead.next();
  expect(started).toBe(1 + options.ahead);
});

test("a batch that cannot be loaded fails when it is asked for, and the cursor stays before it", async () => {
  let calls = 0;
  const failing = stream(async (rows) => {
    calls += 1;
    if (calls === 3) throw new Error("row 7 is broken");
    return rows;
  });
  await take(2, failing);
  const before = failing.state();
  await expect(failing.next()).rejects.toThrow("row 7 is broken");
  expect(failing.state()).toEqual(before);
});

test("can be read as a sequence that does not end with the epoch", async () => {
  const rows: number[] = [];
  for await (const batch of stream()) {
    rows.push(...batch);
    if (rows.length >= 20) break;
  }
  expect(rows.slice(0, 10).sort(ascending)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(rows.slice(10, 20).sort(ascending)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});
