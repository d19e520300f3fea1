import { expect, test } from "vitest";
import { Capacity, type Claim } from "./capacity.ts";

const never = new AbortController().signal;

function setUp(slots: number) {
  const capacity = new Capacity(slots);
  const admitted: string[] = [];
  const told = new Map<string, string>();
  const releases = new Map<string, () => void>();
  const ask = async (id: string, priority: Claim["priority"] = "normal", signal: AbortSignal = never, wanted = 1) => {
    const release = await capacity.acquire(
      { id, priority, queue: "default", slots: wanted, accelerator: null, gpus: 0, tell: (why) => told.set(id, why) },
      signal,
    );
    admitted.push(id);
    releases.set(id, release);
  };
  return { capacity, admitted, told, ask, release: (id: string) => releases.get(id)?.() };
}

const settled = async () => await new Promise((resolve) => setImmediate(resolve));

test("a free slot is given at once; who waits is told how many are busy and ahead", async () => {
  const { admitted, told, ask } = setUp(1);
  await ask("run_1");
  void ask("run_2");
  void ask("run_3");
  await settled();
  expect(admitted).toEqual(["run_1"]);
  expect(told.get("run_3")).toBe(
    'needs a worker slot on this computer; 1 of 1 slot is busy; 1 run ahead in queue "default"',
  );
});

test("slots go by priority, then age, whoever asked first", async () => {
  const { admitted, ask, release } = setUp(1);
  await ask("run_0");
  for (const [id, priority] of [
    ["run_3", "low"],
    ["run_2", "normal"],
    ["run_1", "normal"],
    ["run_4", "high"],
  ] as const)
    void ask(id, priority);
  for (const id of ["run_0", "run_4", "run_1", "run_2"]) {
    release(id);
    await settled();
  }
  expect(admitted).toEqual(["run_0", "run_4", "run_1", "run_2", "run_3"]);
});

test("giving a slot back twice frees one", async () => {
  const { admitted, ask, release } = setUp(1);
  await ask("run_1");
  void ask("run_2");
  void ask("run_3");
  release("run_1");
  release("run_1");
  await settled();
  expect(admitted).toEqual(["run_1", "run_2"]);
});

test("who stops waiting leaves the queue, and those behind are told", async () => {
  const { told, ask } = setUp(1);
  const stop = new AbortController();
  await ask("run_1");
  const leaving = ask("run_2", "normal", stop.signal);
  void ask("run_3");
  stop.abort(new Error("cancelled"));
  await expect(leaving).rejects.toThrow("cancelled");
  expect(told.get("run_3")).toContain("0 runs ahead");
});

test("who stood in front and stops waiting lets those behind it in", async () => {
  const { admitted, ask } = setUp(3);
  const stop = new AbortController();
  await ask("run_1", "normal", never, 2);
  const leaving = ask("run_2", "normal", stop.signal, 2);
  void ask("run_3");
  stop.abort(new Error("cancelled"));
  await expect(leaving).rejects.toThrow("cancelled");
  await settled();
  expect(admitted).toEqual(["run_1", "run_3"]);
});

test("thousands who wait are told their places in one walk of the line", async () => {
  const { capacity, ask, told } = setUp(1);
  capacity.occupy();
  for (let index = 0; index < 5000; index++) void ask(`run_${String(index).padStart(4, "0")}`);
  expect(told.get("run_4999")).toContain('4999 runs ahead in queue "default"');
});

test("a worker that runs already has its slot even when none is free, and keeps others waiting", async () => {
  const { capacity, admitted, ask } = setUp(1);
  const first = capacity.occupy();
  const second = capacity.occupy();
  void ask("run_1");
  first();
  await settled();
  expect(admitted).toEqual([]);
  second();
  await settled();
  expect(admitted).toEqual(["run_1"]);
});

test("the ranks of an attempt get all their slots or none, and are not passed by smaller ones behind them", async () => {
  const { admitted, told, ask, release } = setUp(3);
  await ask("run_1", "normal", never, 2);
  void ask("run_2", "normal", never, 2);
  void ask("run_3");
  await settled();
  expect(admitted).toEqual(["run_1"]);
  expect(told.get("run_2")).toBe(
    'needs 2 worker slots on this computer; 2 of 3 slots are busy; 0 runs ahead in queue "default"',
  );
  release("run_1");
  await settled();
  expect(admitted).toEqual(["run_1", "run_2", "run_3"]);
});

test("an attempt of more ranks than there are slots gets all of them", async () => {
  const { admitted, ask } = setUp(2);
  await ask("run_1", "normal", never, 8);
  expect(admitted).toEqual(["run_1"]);
});
