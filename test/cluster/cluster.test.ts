import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cluster } from "./cluster.ts";
import { jobOf, succeeds } from "./job-fixtures.ts";
import { sharedCluster } from "./shared-cluster.ts";

let cluster: Cluster;
let namespace: string;
beforeAll(async () => {
  cluster = await sharedCluster();
  namespace = await cluster.namespace("cluster");
});
afterAll(async () => {
  await cluster?.admin.call("DELETE", `/api/v1/namespaces/${namespace}`);
});

const jobs = (): string => `/apis/batch/v1/namespaces/${namespace}/jobs`;

test("simulated nodes carry GPUs, their product, a rack and the taint that keeps other pods away", async () => {
  const nodes = await cluster.admin.list("/api/v1/nodes?labelSelector=nvidia.com/gpu.product=NVIDIA-H100-80GB-HBM3");
  expect(nodes.map(({ metadata }) => metadata.labels?.["drydock.dev/rack"])).toEqual([
    "rack-0",
    "rack-0",
    "rack-1",
    "rack-1",
  ]);
  expect(nodes[0]).toMatchObject({
    status: { allocatable: { "nvidia.com/gpu": "8" } },
    spec: { taints: [expect.objectContaining({ key: "nvidia.com/gpu", effect: "NoSchedule" })] },
  });
});

test("a gang of four pods with eight GPUs each is bound, one pod to a node", async () => {
  await cluster.admin.call("POST", jobs(), jobOf("gang", { ranks: 4, gpus: 8, image: "drydock.test/worker:1" }));
  const pods = await succeeds(async () => {
    const found = await cluster.pods(namespace, "job-name=gang");
    expect(found.map(({ status }) => (status as { phase: string }).phase)).toEqual(Array(4).fill("Running"));
    return found;
  });
  const places = pods.map(({ spec }) => (spec as { nodeName: string }).nodeName);
  expect(places.toSorted()).toEqual(["h100-0", "h100-1", "h100-2", "h100-3"]);
  await cluster.admin.call("DELETE", `${jobs()}/gang?propagationPolicy=Foreground`);
  await succeeds(async () => expect(await cluster.pods(namespace, "job-name=gang")).toEqual([]));
});

test("a namespace of runs refuses a pod that may become root", async () => {
  const privileged = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "root" },
    spec: { containers: [{ name: "main", image: "drydock.test/worker:1", securityContext: { privileged: true } }] },
  };
  await expect(cluster.admin.call("POST", `/api/v1/namespaces/${namespace}/pods`, privileged)).rejects.toThrow(
    /403.*violates PodSecurity .*restricted/,
  );
});

test.each([
  ["oom", { exitCode: 137, containerReason: "OOMKilled" }, { containerStatuses: [terminated(137, "OOMKilled")] }],
  ["exit", { exitCode: 65 }, { containerStatuses: [terminated(65, "Error")] }],
  [
    "evicted",
    { exitCode: 137, podReason: "Evicted", disruption: "TerminationByKubelet" },
    {
      reason: "Evicted",
      conditions: expect.arrayContaining([
        expect.objectContaining({ type: "DisruptionTarget", reason: "TerminationByKubelet" }),
      ]),
    },
  ],
  ["refused", { exitCode: 1, podReason: "UnexpectedAdmissionError", isNeverStarted: true }, { phase: "Failed" }],
])("a simulated pod ends as told: %s", async (name, ending, status) => {
  await cluster.admin.call("POST", jobs(), jobOf(name, { ranks: 1, gpus: 1, image: "drydock.test/worker:1" }));
  const pod = await succeeds(async () => {
    const [found] = await cluster.pods(namespace, `job-name=${name}`);
    expect(found?.["status"]).toMatchObject({ phase: "Running" });
    return found!;
  });
  await cluster.endPod(namespace, pod.metadata.name, ending);
  await succeeds(async () => {
    expect(await cluster.admin.call("GET", `${jobs()}/${name}`)).toMatchObject({
      status: { conditions: expect.arrayContaining([expect.objectContaining({ type: "Failed", status: "True" })]) },
    });
  });
  expect(await cluster.admin.call("GET", `/api/v1/namespaces/${namespace}/pods/${pod.metadata.name}`)).toMatchObject({
    status,
  });
});

function terminated(exitCode: number, reason: string): object {
  return expect.objectContaining({ state: { terminated: expect.objectContaining({ exitCode, reason }) } });
}

test.each(["apiserver", "etcd", "scheduler", "controller-manager", "kwok"])(
  "what was written is there after kill -9 of %s, and the cluster goes on",
  async (name) => {
    const job = `after-${name}`;
    await cluster.component(name).kill9();
    await cluster.component(name).start();
    await succeeds(async () => {
      await cluster.admin.apply(jobs(), {
        apiVersion: "batch/v1",
        kind: "Job",
        ...jobOf(job, { ranks: 1, gpus: 1, image: "drydock.test/quick:1" }),
      });
    });
    await succeeds(async () => {
      expect(await cluster.admin.call("GET", `${jobs()}/${job}`)).toMatchObject({ status: { succeeded: 1 } });
    });
    expect(await cluster.admin.find(`/api/v1/namespaces/${namespace}`)).not.toBeNull();
  },
);
