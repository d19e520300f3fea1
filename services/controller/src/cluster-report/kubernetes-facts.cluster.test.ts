import { createLogger } from "@drydock/kit";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Cluster } from "../../../../test/cluster/cluster.ts";
import { sharedCluster } from "../../../../test/cluster/shared-cluster.ts";
import { gangSettings } from "../kubernetes/gang-settings.ts";
import { KubeApi } from "../kubernetes/kube-api.ts";
import { connectToCluster } from "../kubernetes/kube-connection.ts";
import { KubernetesFacts } from "./kubernetes-facts.ts";

let cluster: Cluster;
let facts: KubernetesFacts;
beforeAll(async () => {
  cluster = await sharedCluster();
  facts = new KubernetesFacts({
    api: new KubeApi(await connectToCluster(await cluster.controllerKubeconfig())),
    pods: () => [],
    productLabels: gangSettings({ namespace: "drydock-runs", image: "drydock.test/worker:1" }).productLabels,
    otherPods: () => [],
    prioritise: () => undefined,
    queues: { queues: () => [], unlistedQueues: () => null },
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
  });
  await facts.connect();
});
afterAll(async () => await facts?.close());

const node = async (name: string) => (await facts.nodes()).find((each) => each.name === name);

test("with the controller's own rights, nodes are told with their accelerator, GPUs and rack", async () => {
  expect(await node("h100-3")).toMatchObject({
    isReady: true,
    accelerator: "nvidia-h100-80gb",
    gpus: { total: 8, free: 8 },
    rack: "rack-1",
    unusable: null,
  });
  expect((await node("l4-0"))?.accelerator).toBe("nvidia-l4-24gb");
});

test("a node that is cordoned says so, and is of use again afterwards", async () => {
  const cordon = async (unschedulable: boolean) =>
    await cluster.admin.patch("/api/v1/nodes/h100-3", { spec: { unschedulable } });
  await cordon(true);
  try {
    await vi.waitFor(async () => expect((await node("h100-3"))?.unusable).toBe("it is cordoned"), 10_000);
  } finally {
    await cordon(false);
  }
  await vi.waitFor(async () => expect((await node("h100-3"))?.unusable).toBeNull(), 10_000);
});
