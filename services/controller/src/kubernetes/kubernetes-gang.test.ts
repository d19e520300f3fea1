import { expect, test } from "vitest";
import type { PodObject } from "./kube-objects.ts";
import { KubernetesGang } from "./kubernetes-gang.ts";
import { labels } from "./names.ts";

function aGang() {
  const deletedJobs: string[] = [];
  const gang = new KubernetesGang(
    { name: "run_1-a1", ranks: 2, placement: { accelerator: null, gpusPerRank: 0 } },
    "dd-run-1-a1",
    {
      hopelessAfterMs: 20_000,
      nodeLossMs: 60_000,
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
