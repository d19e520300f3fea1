import { expect, test, vi } from "vitest";
import type { ClusterNode } from "@drydock/spec";
import { FakeGang } from "../../test/fake-backend.ts";
import { ClusterCapacity } from "./cluster-capacity.ts";

function node(name: string, total: number, unusable: string | null = null): ClusterNode {
  return {
    name,
    isReady: true,
    accelerator: "nvidia-h100-80gb",
    gpus: { total, free: total },
    rack: null,
    block: null,
    taints: [],
    unusable,
    runs: [],
  };
}

function asking(capacity: ClusterCapacity, id: string, gpus: number, accelerator: string | null = "nvidia-h100-80gb") {
  const told: string[] = [];
  let release: (() => void) | null = null;
  const claim = {
    id,
    priority: "normal",
    queue: "default",
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
    placement: { accelerator: "nvidia-h100-80gb", gpusPerRank: 8 },
  });
  capacity.occupyWhile(adopted);
  const waiting = asking(capacity, "run_1", 8);
  const onProcessors = asking(capacity, "run_2", 0, null);
  await vi.waitUntil(onProcessors.isAdmitted);
  expect(waiting.isAdmitted()).toBe(false);
  adopted.kill();
  await vi.waitUntil(waiting.isAdmitted);
});
