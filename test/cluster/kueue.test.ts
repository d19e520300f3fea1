import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cluster } from "./cluster.ts";
import { jobOf, succeeds } from "./job-fixtures.ts";
import type { KubeObject } from "./kube-client.ts";
import { sharedCluster } from "./shared-cluster.ts";

let cluster: Cluster;
let namespace: string;
beforeAll(async () => {
  cluster = await sharedCluster();
  namespace = await cluster.namespace("kueue");
});
afterAll(async () => {
  await cluster?.admin.call("DELETE", `/api/v1/namespaces/${namespace}`);
});

const jobs = (): string => `/apis/batch/v1/namespaces/${namespace}/jobs`;
const image = "drydock.test/worker:1";

const submit = async (
  name: string,
  {
    queue,
    ranks,
    gpus = 8,
    priority = "drydock-normal",
  }: { queue: string; ranks: number; gpus?: number; priority?: string },
) => {
  const labels = { "kueue.x-k8s.io/queue-name": queue, "kueue.x-k8s.io/priority-class": priority };
  await cluster.admin.call(
    "POST",
    jobs(),
    jobOf(name, { ranks, gpus, image, labels, product: "NVIDIA-H100-80GB-HBM3" }),
  );
};
const workloadOf = async (job: string): Promise<KubeObject | undefined> => {
  const all = await cluster.admin.list(`/apis/kueue.x-k8s.io/v1beta2/namespaces/${namespace}/workloads`);
  return all.find(({ metadata }) => JSON.stringify(metadata["ownerReferences"]).includes(`"name":"${job}"`));
};
const expectCondition = async (job: string, condition: object): Promise<void> => {
  await succeeds(async () => {
    expect((await workloadOf(job))?.["status"]).toMatchObject({
      conditions: expect.arrayContaining([expect.objectContaining(condition)]),
    });
  });
};
const remove = async (job: string): Promise<void> => {
  await cluster.admin.call("DELETE", `${jobs()}/${job}?propagationPolicy=Background`);
  await succeeds(async () => expect(await workloadOf(job)).toBeUndefined());
};

test("a gang within the quota is admitted to nodes of the accelerator and runs", async () => {
  await submit("fits", { queue: "default", ranks: 3 });
  await expectCondition("fits", { type: "Admitted", status: "True" });
  await succeeds(async () => {
    const pods = await cluster.pods(namespace, "job-name=fits");
    expect(pods.map(({ spec }) => (spec as { nodeName?: string }).nodeName?.slice(0, 4))).toEqual(
      Array(3).fill("h100"),
    );
  });
});

test("a gang that must wait says for what, and goes on when the GPUs are free", async () => {
  await submit("waits", { queue: "default", ranks: 2 });
  await expectCondition("waits", {
    type: "QuotaReserved",
    status: "False",
    message: expect.stringContaining("insufficient unused quota"),
  });
  await remove("fits");
  await expectCondition("waits", { type: "Admitted", status: "True" });
  await remove("waits");
});

test("a gang of more GPUs than the queues of a cohort have is said never to fit", async () => {
  await submit("never", { queue: "default", ranks: 9 });
  await expectCondition("never", {
    type: "QuotaReserved",
    status: "False",
    message: expect.stringMatching(/insufficient quota for nvidia.com\/gpu.*\(72\) > maximum capacity \(32\)/),
  });
  await remove("never");
});

test("a queue that does not exist is named", async () => {
  await submit("lost", { queue: "nope", ranks: 1 });
  await expectCondition("lost", {
    type: "QuotaReserved",
    reason: "Inadmissible",
    message: expect.stringContaining("LocalQueue nope doesn't exist"),
  });
  await remove("lost");
});

test("a queue borrows what another leaves free, and gives it back by preemption", async () => {
  await submit("borrows", { queue: "default", ranks: 4 });
  await expectCondition("borrows", { type: "Admitted", status: "True" });
  await submit("owner", { queue: "research", ranks: 1 });
  await expectCondition("borrows", { type: "Evicted", status: "True", reason: "Preempted" });
  await expectCondition("owner", { type: "Admitted", status: "True" });
  await remove("owner");
  await remove("borrows");
});

test("a run of a higher priority preempts one of a lower in its queue", async () => {
  await submit("low", { queue: "default", ranks: 3, priority: "drydock-low" });
  await expectCondition("low", { type: "Admitted", status: "True" });
  await submit("high", { queue: "default", ranks: 3, priority: "drydock-high" });
  await expectCondition("low", { type: "Preempted", status: "True" });
  await expectCondition("high", { type: "Admitted", status: "True" });
  await remove("high");
  await remove("low");
});

test("with Kueue killed a Job is refused with a sentence that names its webhook; with Kueue back it is taken", async () => {
  await cluster.component("kueue").kill9();
  const job = jobOf("refused", { ranks: 1, gpus: 1, image });
  await expect(cluster.admin.call("POST", jobs(), job)).rejects.toThrow(/500.*failed calling webhook.*mjob\.kb\.io/);
  await cluster.component("kueue").start();
  await succeeds(async () => {
    await cluster.admin.call("POST", jobs(), job);
  });
});
