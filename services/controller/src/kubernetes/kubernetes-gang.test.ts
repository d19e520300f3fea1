import { expect, test } from "vitest";
import { classifyEnd } from "../attempts/attempt-end.ts";
import type { PodObject } from "./kube-objects.ts";
import { KubernetesGang } from "./kubernetes-gang.ts";
import { labels } from "./names.ts";

function aGang() {
  const deletedJobs: string[] = [];
  const gang = new KubernetesGang(
    { name: "run_1-a1", ranks: 2, placement: { accelerator: null, gpusPerRank: 0, queue: "default" } },
    "dd-run-1-a1",
    {
      hopelessAfterMs: 20_000,
      nodeLossMs: 60_000,
      whyEvicted: () => "its GPUs went to run run_2 (priority high): it goes first in their queue",
      deletePods: () => undefined,
      deleteJob: (name) => deletedJobs.push(name),
    },
  );
  return { gang, deletedJobs };
}

function aPod(rank: number, metadata: object = {}): PodObject {
  return {
    metadata: { name: `pod-${rank}`, labels: { [labels.rank]: String(rank) }, ...metadata },
    spec: { nodeName: `node-${rank}` },
    status: { phase: "Running" },
  };
}

test("a pod that was to end long ago, and of which its node says nothing, ends its gang as lost with the node", async () => {
  const { gang, deletedJobs } = aGang();
  gang.seePod(aPod(0), 0);
  const leaving = aPod(1, { deletionTimestamp: "2026-11-23T00:00:00Z", deletionGracePeriodSeconds: 30 });
  gang.seePod(leaving, 0);
  gang.seePod(leaving, 90_000);
  expect(gang.isOver).toBe(false);
  gang.seePod(leaving, 90_001);
  expect((await gang.ended).cause).toMatchObject({
    rank: 1,
    reason: "node-lost",
    node: "node-1",
    message: "its pod pod-1 was to end within 30 s, and 60 s later its node has not said that it did",
  });
  expect(deletedJobs).toEqual(["dd-run-1-a1"]);
});

test("a gang whose ranks have all ended is over also when the Job controller never says so", async () => {
  const { gang, deletedJobs } = aGang();
  gang.seePod(stopped(aPod(0)), 0);
  gang.look(60_000);
  gang.seePod(stopped(aPod(1)), 60_000);
  gang.look(60_000);
  gang.look(69_999);
  expect(gang.isOver).toBe(false);
  gang.look(70_000);
  expect((await gang.ended).ranks.map(({ exitCode }) => exitCode)).toEqual([143, 143]);
  expect(deletedJobs).toEqual([]);
});

test("a preempted gang has ended when its pods have: their checkpoints are waited for, and it says who took its GPUs", async () => {
  const { gang, deletedJobs } = aGang();
  const job = (status: object) => ({ metadata: { name: "dd-run-1-a1" }, spec: { suspend: true }, status });
  for (const rank of [0, 1]) gang.seePod(aPod(rank), 0);
  gang.seeJob(job({ active: 0, terminating: 2 }));
  expect(gang.isOver).toBe(false);
  for (const rank of [0, 1]) gang.losePod(stopped(aPod(rank)));
  gang.seeJob(job({ active: 0, terminating: 0 }));
  const end = await gang.ended;
  expect(end.cause).toMatchObject({ exitCode: 143, reason: "preempted" });
  expect(classifyEnd(end, [], null)).toMatchObject({
    kind: "stopped",
    reason: "preempted",
    message:
      "the worker was stopped from outside after a checkpoint; its GPUs went to run run_2 (priority high): it goes first in their queue",
  });
  expect(deletedJobs).toEqual(["dd-run-1-a1"]);
});

function stopped(pod: PodObject): PodObject {
  const state = { terminated: { exitCode: 143, reason: "Error" } };
  return { ...pod, status: { phase: "Failed", containerStatuses: [{ name: "worker", state }] } };
}
