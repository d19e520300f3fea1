import { expect, test, vi } from "vitest";
import type { ClusterNode } from "@drydock/spec";
import { FakeGang } from "../../test/fake-backend.ts";
import { ClusterCapacity } from "./cluster-capacity.ts";

function node(name: string, total: number, unusable: string | null = null, heldByOthers = 0): ClusterNode {
  return {
    name,
    isReady: true,
    accelerator: "nvidia-h100-80gb",
    gpus: { total, free: total - heldByOthers },
    heldByOthers,
    rack: null,
    block: null,
    taints: [],
    unusable,
    runs: [],
  };
}

function asking(
  capacity: ClusterCapacity,
  id: string,
  gpus: number,
  accelerator: string | null = "nvidia-h100-80gb",
  queue = "default",
) {
  const told: string[] = [];
  let release: (() => void) | null = null;
  const claim = {
    id,
    priority: "normal",
    queue,
    slots: 1,
    accelerator,
    gpus,
    tell: (why: string) => told.push(why),
  } as const;
  void capacity.acquire(claim, new AbortController().signal).then((given) => (release = given));
  return { told, isAdmitted: () => release !== null, end: () => release?.() };
}

test("a gang gets all its GPUs or none, and one behind it does not pass", async () => {
  const capacity = new ClusterCapacity();
  capacity.resize([node("a", 8), node("b", 8), node("drained", 8, "is drained")]);
  const first = asking(capacity, "run_1", 12);
  const second = asking(capacity, "run_2", 16);
  const third = asking(capacity, "run_3", 4);
  await vi.waitUntil(first.isAdmitted);
  expect([second.isAdmitted(), third.isAdmitted()]).toEqual([false, false]);
  expect(second.told.at(-1)).toBe(
    'needs 16 × nvidia-h100-80gb; the cluster has 16, 12 of them busy; 0 runs ahead in queue "default"',
  );
  first.end();
  await vi.waitUntil(second.isAdmitted);
  expect(third.isAdmitted()).toBe(false);
});

test("an accelerator that no node has is named; a new node admits who waited", async () => {
  const capacity = new ClusterCapacity();
  const waiting = asking(capacity, "run_1", 8);
  expect(waiting.told).toEqual([
    'needs 8 × nvidia-h100-80gb; no usable node has nvidia-h100-80gb; 0 runs ahead in queue "default"',
  ]);
  capacity.resize([node("new", 8)]);
  await vi.waitUntil(waiting.isAdmitted);
});

test("gangs that an earlier controller started count; runs without GPUs do not wait", async () => {
  const capacity = new ClusterCapacity();
  capacity.resize([node("a", 8)]);
  const adopted = Object.assign(new FakeGang("run_0-a1"), {
    placement: { accelerator: "nvidia-h100-80gb", gpusPerRank: 8, queue: "default" },
  });
  capacity.occupyWhile(adopted);
  const waiting = asking(capacity, "run_1", 8);
  const onProcessors = asking(capacity, "run_2", 0, null);
  await vi.waitUntil(onProcessors.isAdmitted);
  expect(waiting.isAdmitted()).toBe(false);
  adopted.kill();
  await vi.waitUntil(waiting.isAdmitted);
});

const h100 = "nvidia-h100-80gb";

test("GPUs that others hold are not given away, and are told of", async () => {
  const capacity = new ClusterCapacity();
  capacity.resize([node("a", 8, null, 4), node("b", 8)]);
  const waiting = asking(capacity, "run_1", 16);
  expect(waiting.told).toEqual([
    'needs 16 × nvidia-h100-80gb; the cluster has 16, 0 of them busy and 4 held by others; 0 runs ahead in queue "default"',
  ]);
  capacity.resize([node("a", 8), node("b", 8)]);
  await vi.waitUntil(waiting.isAdmitted);
});

test("who waits for its queue's quota says so and holds up nobody of another queue", async () => {
  const capacity = new ClusterCapacity({ small: { [h100]: 8 } });
  capacity.resize([node("a", 8), node("b", 8)]);
  const first = asking(capacity, "run_1", 6, h100, "small");
  const second = asking(capacity, "run_2", 4, h100, "small");
  const third = asking(capacity, "run_3", 2, h100, "small");
  const other = asking(capacity, "run_4", 8);
  await vi.waitUntil(() => first.isAdmitted() && other.isAdmitted());
  // The queue's own order holds: a smaller one does not pass the first.
  expect([second.isAdmitted(), third.isAdmitted()]).toEqual([false, false]);
  expect(second.told.at(-1)).toBe(
    'needs 4 × nvidia-h100-80gb; the cluster has 16, 14 of them busy; queue "small" uses 6 of its quota of 8; 0 runs ahead in queue "small"',
  );
  expect(capacity.queues()).toMatchObject([
    { name: "small", quotas: [{ accelerator: h100, gpus: 8, mayBorrow: 0, used: 6 }] },
  ]);
  first.end();
  await vi.waitUntil(() => second.isAdmitted() && third.isAdmitted());
});

test("a gang over its queue's quota is told that it can never start, and holds up nobody", async () => {
  const capacity = new ClusterCapacity({ small: { [h100]: 8 } });
  capacity.resize([node("a", 8), node("b", 8)]);
  const never = asking(capacity, "run_1", 16, h100, "small");
  const fits = asking(capacity, "run_2", 8, h100, "small");
  await vi.waitUntil(fits.isAdmitted);
  expect(never.told[0]).toBe(
    'needs 16 × nvidia-h100-80gb; the cluster has 16, 0 of them busy; it can never start: queue "small" may use 8 × nvidia-h100-80gb at most: raise its quota or resize the run; 0 runs ahead in queue "small"',
  );
  const elsewhere = asking(capacity, "run_3", 1, "nvidia-l4-24gb", "small");
  expect(elsewhere.told[0]).toContain('queue "small" may use 0 × nvidia-l4-24gb at most');
});

test("an adopted gang counts in its queue's quota", async () => {
  const capacity = new ClusterCapacity({ small: { [h100]: 8 } });
  capacity.resize([node("a", 8), node("b", 8)]);
  const adopted = Object.assign(new FakeGang("run_0-a1"), {
    placement: { accelerator: h100, gpusPerRank: 8, queue: "small" },
  });
  capacity.occupyWhile(adopted);
  const waiting = asking(capacity, "run_1", 8, h100, "small");
  await new Promise((resolve) => setImmediate(resolve));
  expect(waiting.isAdmitted()).toBe(false);
  adopted.kill();
  await vi.waitUntil(waiting.isAdmitted);
});
