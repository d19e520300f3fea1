import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cluster } from "../../../../test/cluster/cluster.ts";
import type { KubeObject } from "../../../../test/cluster/kube-client.ts";
import { sharedCluster } from "../../../../test/cluster/shared-cluster.ts";
import { missingImage, type PodEnding } from "../../../../test/cluster/simulated-nodes.ts";
import { gangContract } from "../../../../test/support/gang-contract.ts";
import { phaseOf } from "../../../../test/support/kubernetes-backend.ts";
import { aGang } from "../../test/gang-spec.ts";
import { classifyEnd } from "../attempts/attempt-end.ts";
import type { Gang, RankEnd } from "../backend/cluster-backend.ts";
import { gangSettings } from "./gang-settings.ts";
import { KubeApi } from "./kube-api.ts";
import { connectToCluster } from "./kube-connection.ts";
import { KubernetesBackend } from "./kubernetes-backend.ts";

let cluster: Cluster;
let namespace: string;
let scratch: string;
const backends: KubernetesBackend[] = [];

beforeAll(async () => {
  cluster = await sharedCluster();
  namespace = await cluster.namespace("backend");
  scratch = await mkdtemp(join(tmpdir(), "drydock-kubernetes-"));
});
afterAll(async () => {
  for (const backend of backends) await backend.close();
  await rm(scratch, { recursive: true, force: true });
});

async function controller(image = "drydock.test/worker:1"): Promise<KubernetesBackend> {
  const api = new KubeApi(await connectToCluster(await cluster.controllerKubeconfig()));
  const backend = new KubernetesBackend({
    api,
    settings: gangSettings({ namespace, image, imagePullPolicy: "IfNotPresent", nodeLossSeconds: 2 }),
    storage: new FolderStorage(scratch),
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
    lookMs: 200,
    hopelessAfterMs: 1000,
  });
  await backend.connect();
  backends.push(backend);
  return backend;
}

async function podsOf(gang: Gang): Promise<KubeObject[]> {
  return await cluster.pods(namespace, `drydock.dev/gang=dd-${gang.name.replaceAll("_", "-")}`);
}

async function running(gang: Gang): Promise<KubeObject[]> {
  return await vi.waitUntil(
    async () => {
      const pods = await podsOf(gang);
      const isRunning = pods.every((pod) => (pod["status"] as { phase: string }).phase === "Running");
      return pods.length === gang.ranks && isRunning ? pods : null;
    },
    { timeout: 20_000, interval: 100 },
  );
}

test("a gang is one Indexed Job whose pods land on nodes of the right accelerator, with a Secret of its own and no Service", async () => {
  const gang = await (await controller()).start(aGang({ ranks: 3 }));
  const pods = await running(gang);
  for (const pod of pods) expect((pod["spec"] as { nodeName: string }).nodeName).toMatch(/^h100-/);
  const name = `dd-${gang.name.replaceAll("_", "-")}`;
  const job = await cluster.admin.call<KubeObject>("GET", `/apis/batch/v1/namespaces/${namespace}/jobs/${name}`);
  const secret = await cluster.admin.call<KubeObject>("GET", `/api/v1/namespaces/${namespace}/secrets/${name}`);
  expect(secret.metadata["ownerReferences"]).toMatchObject([{ kind: "Job", uid: job.metadata.uid }]);
  expect(await cluster.admin.list(`/api/v1/namespaces/${namespace}/services`)).toEqual([]);
  for (const pod of pods) await cluster.endPod(namespace, pod.metadata.name, {});
  const { ranks } = await gang.ended;
  expect(ranks.map(({ rank, exitCode }) => [rank, exitCode])).toEqual([
    [0, 0],
    [1, 0],
    [2, 0],
  ]);
});

// The failure table: what the cluster shows, and what is made of it.
test.each<[string, PodEnding, Partial<RankEnd>, string]>([
  [
    "over its memory limit",
    { exitCode: 137, containerReason: "OOMKilled" },
    { reason: "out-of-memory" },
    "out-of-memory",
  ],
  ["killed after its grace period", { exitCode: 137, containerReason: "Error" }, { signal: "SIGKILL" }, "worker-lost"],
  ["bad config", { exitCode: 64 }, { exitCode: 64 }, "bad-config"],
  ["bad data", { exitCode: 65 }, { exitCode: 65 }, "bad-data"],
  ["an allocator's error", { exitCode: 71 }, { exitCode: 71 }, "out-of-memory"],
  ["storage away", { exitCode: 75 }, { exitCode: 75 }, "storage-unavailable"],
  ["a GPU fault", { exitCode: 86 }, { exitCode: 86 }, "hardware"],
  ["any other exit code", { exitCode: 3 }, { exitCode: 3 }, "internal-error"],
  [
    "evicted for memory of the node",
    {
      exitCode: 137,
      podReason: "Evicted",
      message: "The node was low on resource: memory.",
      disruption: "TerminationByKubelet",
    },
    { reason: "drained" },
    "preempted",
  ],
  [
    "evicted for its own disk",
    {
      exitCode: 137,
      podReason: "Evicted",
      message: "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
    },
    { reason: "disk-full" },
    "bad-config",
  ],
  [
    "preempted by the scheduler",
    { exitCode: 137, disruption: "PreemptionByScheduler" },
    { reason: "preempted" },
    "preempted",
  ],
  ["drained", { exitCode: 137, disruption: "EvictionByEvictionAPI" }, { reason: "drained" }, "preempted"],
  [
    "drained, after its checkpoint",
    { exitCode: 143, disruption: "EvictionByEvictionAPI" },
    { exitCode: 143 },
    "preempted",
  ],
  [
    "on a node that is lost",
    { exitCode: 137, disruption: "DeletionByTaintManager" },
    { reason: "node-lost" },
    "node-lost",
  ],
  [
    "collected after its node was deleted",
    { exitCode: 137, disruption: "DeletionByPodGC" },
    { reason: "node-lost" },
    "node-lost",
  ],
  [
    "shut down with its node",
    { exitCode: 137, podReason: "Terminated", disruption: "TerminationByKubelet" },
    { reason: "drained" },
    "preempted",
  ],
  [
    "refused by the kubelet",
    { exitCode: 1, isNeverStarted: true, podReason: "UnexpectedAdmissionError", message: "Allocate failed" },
    { reason: "refused-by-node" },
    "node-lost",
  ],
  [
    "out of a device",
    { exitCode: 1, isNeverStarted: true, podReason: "OutOfnvidia.com/gpu" },
    { reason: "refused-by-node" },
    "node-lost",
  ],
  ["past its deadline", { exitCode: 137, podReason: "DeadlineExceeded" }, { reason: "deadline" }, "deadline-exceeded"],
])("a rank that ends %s takes the gang with it and is classified", async (_, ending, cause, failureClass) => {
  const gang = await (await shared()).start(aGang());
  const pods = await running(gang);
  const second = pods.find(({ metadata }) => metadata.labels?.["batch.kubernetes.io/job-completion-index"] === "1")!;
  await cluster.endPod(namespace, second.metadata.name, ending);
  const end = await gang.ended;
  expect(end.cause).toMatchObject({ rank: 1, ...cause });
  expect(classifyEnd(end, [], null)).toMatchObject({ reason: failureClass });
});

let sharedBackend: Promise<KubernetesBackend> | null = null;
async function shared(): Promise<KubernetesBackend> {
  return await (sharedBackend ??= controller());
}

test("an image that does not exist ends the gang with the image's name", async () => {
  const gang = await (await controller(missingImage)).start(aGang());
  const end = await gang.ended;
  expect(classifyEnd(end, [], null)).toMatchObject({
    reason: "image-pull",
    message: expect.stringContaining(missingImage),
  });
}, 60_000);

test("another controller finds the gang, and the same name starts no second one", async () => {
  const asked = aGang();
  const first = await (await shared()).start(asked);
  await running(first);
  const other = await controller();
  expect((await other.list()).map(({ name }) => name)).toContain(asked.name);
  const again = await other.start(asked);
  expect(await podsOf(again)).toHaveLength(2);
  again.kill();
  await Promise.all([first.ended, again.ended]);
});

test("a gang whose start was cut short before it had a Secret gets it from who finds it", async () => {
  const asked = aGang();
  const name = `dd-${asked.name.replaceAll("_", "-")}`;
  const path = `/api/v1/namespaces/${namespace}/secrets/${name}`;
  const first = await (await shared()).start(asked);
  await cluster.admin.call("DELETE", path);
  const found = await (await controller()).find(asked.name, { DRYDOCK_WORKER_TOKEN: "token" });
  const secret = await cluster.admin.call<KubeObject>("GET", path);
  expect(secret["data"]).toMatchObject({ DRYDOCK_WORKER_TOKEN: Buffer.from("token").toString("base64") });
  expect(secret.metadata["ownerReferences"]).toMatchObject([{ kind: "Job", name }]);
  found?.kill();
  await first.ended;
});

test("a gang that ended while nobody watched tells its end to who starts it again", async () => {
  const asked = aGang({ ranks: 1 });
  const first = await (await shared()).start(asked);
  for (const pod of await running(first)) await cluster.endPod(namespace, pod.metadata.name, { exitCode: 71 });
  await first.ended;
  const again = await (await controller()).start(asked);
  expect((await again.ended).cause).toMatchObject({ exitCode: 71 });
}, 30_000);

test("a Job of the same name that is not ours is left alone, and the sentence names it", async () => {
  const asked = aGang();
  const name = `dd-${asked.name.replaceAll("_", "-")}`;
  await cluster.admin.call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, {
    metadata: { name },
    spec: {
      suspend: true,
      template: { spec: { restartPolicy: "Never", containers: [{ name: "other", image: "other" }] } },
    },
  });
  await expect((await shared()).start(asked)).rejects.toThrow(
    `a Job ${name} is in namespace ${namespace} already, and is not Drydock's: delete or rename it, then submit the run again`,
  );
});

test("a Job of an attempt that was asked for with other resources is told apart, and goes on", async () => {
  const asked = aGang();
  const gang = await (await shared()).start(asked);
  const name = `dd-${asked.name.replaceAll("_", "-")}`;
  await expect((await shared()).start({ ...asked, ranks: 3 })).rejects.toThrow(
    `a Job ${name} is in namespace ${namespace} already, and is of an attempt with other resources: delete or rename it, then submit the run again`,
  );
  await running(gang);
  gang.kill();
  expect((await gang.ended).ranks).toHaveLength(2);
});

test("ranks that fit on one node are put on one, larger ones into one rack", async () => {
  const nodesOf = async (ranks: number, gpusPerRank: number): Promise<string[]> => {
    const gang = await (await shared()).start(aGang({ ranks, placement: { ...aGang().placement, gpusPerRank } }));
    const pods = await running(gang);
    gang.kill();
    await gang.ended;
    return [...new Set(pods.map(({ spec }) => (spec as { nodeName: string }).nodeName))].toSorted();
  };
  expect(await nodesOf(4, 1)).toHaveLength(1);
  // Racks of two nodes.
  expect([
    ["h100-0", "h100-1"],
    ["h100-2", "h100-3"],
  ]).toContainEqual(await nodesOf(2, 8));
});

test("a wish to stop ends every pod; its Job goes without a trace of a retry", async () => {
  const gang = await (await shared()).start(aGang());
  await running(gang);
  gang.stop();
  expect((await gang.ended).ranks).toHaveLength(2);
  expect((await podsOf(gang)).filter((pod) => (pod["status"] as { phase: string }).phase === "Running")).toEqual([]);
});

gangContract({
  start: async (ranks) => {
    const gang = await (await shared()).start(aGang({ ranks }));
    await running(gang);
    return gang;
  },
  startAgain: async (backend, { name, ranks }) => await backend.start(aGang({ name, ranks })),
  another: async () => await controller(),
  end: async (gang, rank, exitCode) => {
    const pods = await podsOf(gang);
    const index = "batch.kubernetes.io/job-completion-index";
    const pod = pods.find(({ metadata }) => metadata.labels?.[index] === String(rank));
    await cluster.endPod(namespace, pod?.metadata.name ?? "", { exitCode });
  },
  alive: async (gang) => (await podsOf(gang)).filter((pod) => phaseOf(pod) === "Running").length,
});
