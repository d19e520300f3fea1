import { createLogger, FolderStorage } from "@drydock/kit";
import type { QueueFacts } from "@drydock/spec";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Cluster } from "../../../../test/cluster/cluster.ts";
import type { KubeObject } from "../../../../test/cluster/kube-client.ts";
import { smallImage } from "../../../../test/cluster/images/small-images.ts";
import { jobOf } from "../../../../test/cluster/job-fixtures.ts";
import { realNodesMissing, sharedCluster } from "../../../../test/cluster/shared-cluster.ts";
import { aBackend, runningPods } from "../../../../test/support/kubernetes-backend.ts";
import { aGang } from "../../test/gang-spec.ts";
import { ClusterCapacity } from "../attempts/cluster-capacity.ts";
import type { Gang, Placement } from "../backend/cluster-backend.ts";
import { KubeApi } from "../kubernetes/kube-api.ts";
import { connectToCluster } from "../kubernetes/kube-connection.ts";
import type { KubernetesBackend } from "../kubernetes/kubernetes-backend.ts";
import { jobName } from "../kubernetes/names.ts";
import { followCluster, type FollowedCluster } from "./follow-cluster.ts";

const h100 = "nvidia-h100-80gb";
const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });
const patient = { timeout: 20_000 };

let cluster: Cluster;
let scratch: string;
let namespace: string;
let backend: KubernetesBackend;
let followed: FollowedCluster;
const gangs: Gang[] = [];

const workloads = (): string => `/apis/kueue.x-k8s.io/v1beta2/namespaces/${namespace}/workloads`;
const localQueues = (): string => `/apis/kueue.x-k8s.io/v1beta2/namespaces/${namespace}/localqueues`;
const queue = async (name: string): Promise<QueueFacts | undefined> =>
  (await followed.facts.queues()).find((each) => each.name === name);

const start = async (name: string, ranks: number, change: Partial<Placement> = {}): Promise<Gang> => {
  const placement = {
    accelerator: h100,
    gpusPerRank: 8,
    queue: "default",
    priority: "normal",
    avoidNodes: [],
  } as const;
  const gang = await backend.start(aGang({ name: `${name}-a1`, ranks, placement: { ...placement, ...change } }));
  gangs.push(gang);
  return gang;
};
const endAll = async (): Promise<void> => {
  for (const gang of gangs.splice(0)) {
    gang.kill();
    await gang.ended;
  }
};

beforeAll(async () => {
  cluster = await sharedCluster();
  scratch = await mkdtemp(join(tmpdir(), "drydock-queues-"));
  namespace = await cluster.namespace("queues");
  const kubeconfig = await cluster.controllerKubeconfig();
  const storage = new FolderStorage(scratch);
  backend = await aBackend({ namespace, kubeconfig, storage, settings: { usesKueue: true } });
  const api = new KubeApi(await connectToCluster(kubeconfig));
  followed = await followCluster({ api, backend }, namespace, null, logger);
});
afterAll(async () => {
  await endAll();
  await followed?.close();
  await backend?.close();
  await rm(scratch, { recursive: true, force: true });
});

afterEach(endAll);

test("queues are told with quota, borrowing and cohort; what runs is used, what goes beyond it borrowed", async () => {
  expect(await queue("research")).toMatchObject({
    // 8 of its own; the other queue of its cohort has 24 and sets no limit.
    quotas: [{ accelerator: h100, gpus: 8, mayBorrow: 24, used: 0, borrowingLimit: null }],
    stopped: null,
    clusterQueue: { name: "drydock-research", cohort: "drydock", fairShareWeight: 1 },
  });
  const gang = await start("run_borrows", 2, { queue: "research" });
  await runningPods(cluster, namespace, gang);
  await vi.waitFor(async () => {
    expect(await queue("research")).toMatchObject({
      quotas: [{ used: 16, borrowed: 8 }],
      clusterQueue: { admittedWorkloads: 1 },
    });
  }, patient);
});

test("those who wait are told in Kueue's order; a new priority changes the Workload and the order", async () => {
  const holds = await start("run_0", 4);
  await runningPods(cluster, namespace, holds);
  await start("run_1", 4, { priority: "low" });
  await start("run_2", 4, { priority: "low" });
  await vi.waitFor(async () => expect((await queue("default"))?.order).toEqual(["run_1", "run_2"]), patient);
  followed.facts.onWaiting([{ runId: "run_2", queue: "default", priority: "normal" }]);
  await vi.waitFor(async () => expect((await queue("default"))?.order).toEqual(["run_2", "run_1"]), patient);
  const found = (await cluster.admin.list(workloads())).find(({ metadata }) =>
    JSON.stringify(metadata["ownerReferences"]).includes(`"${jobName("run_2-a1")}"`),
  );
  expect(found?.["spec"]).toMatchObject({ priority: 1000, priorityClassRef: { name: "drydock-normal" } });
  await vi.waitFor(
    async () => expect((await queue("default"))?.clusterQueue).toMatchObject({ pendingWorkloads: 2 }),
    patient,
  );
});

test("who is preempted says for whom and why", async () => {
  // Within the queue's own quota: by Kueue's rules, who would borrow preempts nobody.
  const low = await start("run_low", 3, { priority: "low" });
  await runningPods(cluster, namespace, low);
  await start("run_high", 3, { priority: "high" });
  expect((await low.ended).cause).toMatchObject({
    reason: "preempted",
    message: "its GPUs went to run run_high (priority high): it goes first in their queue",
  });
});

test("a queue that is on hold, one whose ClusterQueue is not there, and a name that is no queue say why", async () => {
  await cluster.admin.patch(`${localQueues()}/research`, { spec: { stopPolicy: "Hold" } });
  await cluster.admin.call("POST", localQueues(), {
    apiVersion: "kueue.x-k8s.io/v1beta2",
    kind: "LocalQueue",
    metadata: { name: "lost" },
    spec: { clusterQueue: "nowhere" },
  });
  await vi.waitFor(async () => {
    expect((await queue("research"))?.stopped).toBe("its LocalQueue research is on hold (spec.stopPolicy)");
    expect((await queue("lost"))?.stopped).toBe(
      "its ClusterQueue nowhere does not exist: make it, or name another one in the LocalQueue",
    );
  }, patient);
  expect(followed.facts.unlistedQueues()).toBe(
    `there is no LocalQueue of its name in namespace ${namespace}: make one as in k8s/queues/local-queues.yaml, or use default or lost or research`,
  );
});

describe.skipIf(realNodesMissing() !== null)("on a node with a real kubelet", () => {
  test("a gang that is taken out of its queue has ended when its checkpoint is written, and not before", async () => {
    const name = "run_saves-a1";
    const marks = {
      "app.kubernetes.io/managed-by": "drydock",
      "drydock.dev/gang": jobName(name),
      "drydock.dev/run": "run_saves",
      "kueue.x-k8s.io/queue-name": "default",
    };
    const shape = { ranks: 1, image: smallImage, command: ["checkpoint", "2"], labels: marks, graceSeconds: 20 };
    const { metadata, spec } = jobOf(jobName(name), shape) as KubeObject & { spec: { template: object } };
    const job = {
      metadata: { ...metadata, annotations: { "drydock.dev/gang": name } },
      spec: { ...spec, template: { ...spec.template, metadata: { labels: marks } } },
    };
    await cluster.admin.call("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, job);
    const gang = await backend.find(name);
    if (gang === null) throw new Error("the Job is not found");
    gangs.push(gang);
    await runningPods(cluster, namespace, gang);
    await cluster.admin.patch(`${localQueues()}/default`, { spec: { stopPolicy: "HoldAndDrain" } });
    expect((await gang.ended).cause).toMatchObject({
      exitCode: 143,
      reason: "preempted",
      message: "Kueue took its GPUs back: its LocalQueue was stopped",
    });
    await cluster.admin.patch(`${localQueues()}/default`, { spec: { stopPolicy: "None" } });
  });
});

describe("GPUs of others", () => {
  const pods = "/api/v1/namespaces/default/pods";
  const stranger: KubeObject = {
    metadata: { name: "somebody-elses" },
    spec: {
      nodeName: "h100-1",
      tolerations: [{ operator: "Exists" }],
      containers: [{ name: "main", image: "drydock.test/worker:1", resources: { limits: { "nvidia.com/gpu": "5" } } }],
    },
  };
  const nodeOf = async () => (await followed.facts.nodes()).find(({ name }) => name === "h100-1");

  test("those that a pod of another namespace holds are not free and not given away, until it ends", async () => {
    await cluster.admin.call("POST", pods, stranger);
    await vi.waitFor(async () => {
      expect(await nodeOf()).toMatchObject({ heldByOthers: 5, gpus: { total: 8, free: 3 }, runs: [] });
    }, patient);
    const capacity = new ClusterCapacity();
    capacity.resize((await followed.facts.nodes()).filter(({ name }) => name === "h100-1"));
    const told: string[] = [];
    const claim = { id: "run_9", priority: "normal", queue: "default", slots: 4, accelerator: h100, gpus: 4 } as const;
    const admitted = capacity.acquire({ ...claim, tell: (why) => told.push(why) }, AbortSignal.timeout(20_000));
    expect(told).toEqual([
      'needs 4 × nvidia-h100-80gb; the cluster has 8, 0 of them busy and 5 held by others; 0 runs ahead in queue "default"',
    ]);
    await cluster.admin.call("DELETE", `${pods}/somebody-elses?gracePeriodSeconds=0`);
    await vi.waitFor(async () => expect(await nodeOf()).toMatchObject({ heldByOthers: 0, gpus: { free: 8 } }), patient);
    capacity.resize((await followed.facts.nodes()).filter(({ name }) => name === "h100-1"));
    (await admitted)();
  });
});
