import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { FolderStorage } from "@drydock/kit";
import type { Cluster } from "../../../../test/cluster/cluster.ts";
import { sharedCluster } from "../../../../test/cluster/shared-cluster.ts";
import { aBackend, plainNamespace, runningPods } from "../../../../test/support/kubernetes-backend.ts";
import { aGang } from "../../test/gang-spec.ts";
import { classifyEnd } from "../attempts/attempt-end.ts";
import type { Gang, Placement } from "../backend/cluster-backend.ts";
import type { KubernetesBackend } from "./kubernetes-backend.ts";

let cluster: Cluster;
let scratch: string;
let namespace: string;
let kueue: KubernetesBackend;
let plain: KubernetesBackend;

beforeAll(async () => {
  cluster = await sharedCluster();
  scratch = await mkdtemp(join(tmpdir(), "drydock-queueing-"));
  const storage = new FolderStorage(scratch);
  namespace = await cluster.namespace("queueing");
  const kubeconfig = await cluster.controllerKubeconfig();
  kueue = await aBackend({ namespace, kubeconfig, storage, settings: { usesKueue: true } });
  const withoutQueues = await plainNamespace(cluster);
  plain = await aBackend({ namespace: withoutQueues, kubeconfig: cluster.plane.adminKubeconfig, storage });
});
afterAll(async () => {
  for (const backend of [kueue, plain]) {
    for (const gang of await backend.list()) {
      gang.kill();
      await gang.ended;
    }
    await backend.close();
  }
  await rm(scratch, { recursive: true, force: true });
});

const patient = { timeout: 20_000 };

function placed(change: Partial<Placement>): { placement: Placement } {
  const usual = { accelerator: "nvidia-h100-80gb", gpusPerRank: 8, queue: "default", avoidNodes: [] };
  return { placement: { ...usual, priority: "normal", ...change } };
}

/** What a gang says of its waiting, newest last. */
function saidBy(gang: Gang): string[] {
  const told: string[] = [];
  gang.onWaiting?.((why) => told.push(why));
  return told;
}

test("without a queue, a gang that no node can take says what nodes lack", async () => {
  const gang = await plain.start(aGang(placed({ accelerator: "nvidia-b200-192gb" })));
  const told = saidBy(gang);
  await vi.waitFor(
    () => expect(told.at(-1)).toMatch(/^2 of 2 workers have no node yet: 0\/\d+ nodes are available: .*node affinity/),
    patient,
  );
});

test("a gang that asks for an accelerator no node has waits in its queue and says so", async () => {
  const gang = await kueue.start(aGang(placed({ accelerator: "nvidia-b200-192gb" })));
  const told = saidBy(gang);
  await vi.waitFor(
    () => expect(told.at(-1)).toMatch(/^waits in its queue: couldn't assign flavors .*nvidia-h100-80gb doesn't match/),
    patient,
  );
});

test("a gang that can never fit into the quota says what is missing", async () => {
  const gang = await kueue.start(aGang({ ...placed({}), ranks: 64 }));
  const told = saidBy(gang);
  await vi.waitFor(
    () =>
      expect(told.at(-1)).toMatch(
        /^asks for 512 × nvidia\.com\/gpu, and its queue can never have more than 32: ask for fewer/,
      ),
    patient,
  );
});

test("a queue that is not there is named", async () => {
  const gang = await kueue.start(aGang(placed({ queue: "nobody" })));
  const told = saidBy(gang);
  await vi.waitFor(() => expect(told.at(-1)).toMatch(/^waits in its queue: LocalQueue nobody doesn't exist/), patient);
});

test("a gang of high priority takes the place of one of low priority, which ends as preempted", async () => {
  // The queue's own quota and what it may borrow: four nodes of eight.
  const low = await kueue.start(aGang({ ...placed({ priority: "low" }), ranks: 3 }));
  await runningPods(cluster, namespace, low);
  const high = await kueue.start(aGang({ ...placed({ priority: "high" }), ranks: 3 }));
  const end = await low.ended;
  expect(classifyEnd(end, [], null)).toMatchObject({ reason: "preempted" });
  await runningPods(cluster, namespace, high);
  high.kill();
  await high.ended;
});
