import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import { Cluster } from "../../../../test/cluster/cluster.ts";
import { aBackend, plainNamespace, runningPods } from "../../../../test/support/kubernetes-backend.ts";
import { aGang } from "../../test/gang-spec.ts";
import { checkAccess } from "./check-access.ts";
import { gangSettings } from "./gang-settings.ts";
import { KubeApi } from "./kube-api.ts";
import { connectToCluster } from "./kube-connection.ts";
import { KubernetesBackend } from "./kubernetes-backend.ts";
import { LeaderElection } from "./leader-election.ts";

// A cluster of its own: its servers are killed.
let cluster: Cluster;
let scratch: string;
let namespace: string;
let backend: KubernetesBackend;
const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });

beforeAll(async () => {
  cluster = await Cluster.start();
  scratch = await mkdtemp(join(tmpdir(), "drydock-faults-"));
  namespace = await plainNamespace(cluster);
  backend = await aBackend({
    namespace,
    kubeconfig: cluster.plane.adminKubeconfig,
    storage: new FolderStorage(scratch),
  });
});
afterAll(async () => {
  await backend.close();
  await cluster[Symbol.asyncDispose]();
  await rm(scratch, { recursive: true, force: true });
});

async function api(retryBudgetMs = 0): Promise<KubeApi> {
  return new KubeApi(await connectToCluster(cluster.plane.adminKubeconfig), { retryBudgetMs });
}

test("a gang survives a kill -9 of the API server and of etcd", async () => {
  const gang = await backend.start(aGang());
  const pods = await runningPods(cluster, namespace, gang);
  await cluster.component("apiserver").kill9();
  await cluster.component("etcd").kill9();
  await cluster.component("etcd").start();
  await cluster.component("apiserver").start();
  for (const pod of pods) await cluster.endPod(namespace, pod.metadata.name, {});
  expect((await gang.ended).cause).toMatchObject({ exitCode: 0 });
});

test("a gang is started once the API server is back", async () => {
  await cluster.component("apiserver").kill9();
  const starting = backend.start(aGang());
  await delay(500);
  await cluster.component("apiserver").start();
  const gang = await starting;
  expect(await runningPods(cluster, namespace, gang)).toHaveLength(2);
  gang.kill();
  await gang.ended;
});

test("a gang whose node is gone ends as lost with its node", async () => {
  const gang = await backend.start(aGang());
  const [pod] = await runningPods(cluster, namespace, gang);
  const { nodeName: node } = pod!["spec"] as { nodeName: string };
  await cluster.admin.call("DELETE", `/api/v1/nodes/${node}`);
  expect((await gang.ended).cause).toMatchObject({ reason: "node-lost", node });
}, 120_000);

test("two that want to lead: one leads, the other takes over when the lead is given back or its holder is gone", async () => {
  const lost: string[] = [];
  const candidate = async (identity: string): Promise<LeaderElection> =>
    new LeaderElection({
      api: await api(),
      namespace,
      name: "leader",
      identity,
      logger,
      durationMs: 1500,
      onLost: () => lost.push(identity),
    });
  const first = await candidate("first");
  await first.lead(new AbortController().signal);
  const second = await candidate("second");
  const secondLeads = second.lead(new AbortController().signal);
  await delay(3000);
  expect([first.isLeading, second.isLeading]).toEqual([true, false]);
  await first.release();
  await secondLeads;
  expect([first.isLeading, second.isLeading]).toEqual([false, true]);
  // Somebody writes another name into the Lease: whoever leads must notice and stop.
  const path = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases/leader`;
  await cluster.admin.patch(path, { spec: { holderIdentity: "usurper" } });
  await vi.waitFor(() => expect(lost).toEqual(["second"]), { timeout: 5000 });
  expect(second.isLeading).toBe(false);
});

test("a leader that cannot reach the API server stops leading before another one may start", async () => {
  const lost = Promise.withResolvers<number>();
  const election = new LeaderElection({
    api: await api(),
    namespace,
    name: "cut-off",
    identity: "cut-off",
    logger,
    durationMs: 3000,
    onLost: () => lost.resolve(performance.now()),
  });
  await election.lead(new AbortController().signal);
  await cluster.component("apiserver").kill9();
  const cutAtMs = performance.now();
  expect((await lost.promise) - cutAtMs).toBeLessThan(3000);
  await cluster.component("apiserver").start();
});

test("a namespace that is not there is named with the way to make it", async () => {
  const nowhere = new KubernetesBackend({
    api: await api(),
    settings: gangSettings({ namespace: "nowhere", image: "x" }),
    storage: new FolderStorage(scratch),
    logger,
  });
  await expect(nowhere.start(aGang())).rejects.toThrow(
    /namespaces "nowhere" not found: create it with `kubectl apply -k k8s\/runs`, or set DRYDOCK_NAMESPACE/,
  );
});

test("rights that are missing are named by verb and resource", async () => {
  const token = await cluster.controllerToken();
  const other = await plainNamespace(cluster);
  const limited = new KubeApi(await connectToCluster(await cluster.plane.kubeconfig("limited", token)));
  await expect(checkAccess(limited, other, false)).rejects.toThrow(
    `the controller may not get jobs.batch, list jobs.batch, watch jobs.batch, create jobs.batch, delete jobs.batch, delete pods, create secrets, list events in namespace ${other}: apply k8s/runs/rbac.yaml`,
  );
});

test("a kubeconfig that does not work says what is wrong with it", async () => {
  await expect(connectToCluster(join(scratch, "none"))).rejects.toThrow(
    /^the kubeconfig .*none cannot be read \(ENOENT.*\): set KUBECONFIG to a file that `kubectl` works with$/,
  );
  const stranger = await cluster.plane.kubeconfig("stranger", "not-a-token");
  await expect(new KubeApi(await connectToCluster(stranger)).get("/api/v1/nodes")).rejects.toThrow(
    /does not know us \(Unauthorized\): the kubeconfig's token or certificate is wrong or has expired/,
  );
});

test("a namespace that is being deleted refuses new runs with a sentence", async () => {
  const leaving = await plainNamespace(cluster);
  await cluster.admin.call("POST", `/api/v1/namespaces/${leaving}/configmaps`, {
    metadata: { name: "held", finalizers: ["drydock.test/hold"] },
  });
  await cluster.admin.call("DELETE", `/api/v1/namespaces/${leaving}`);
  const there = await aBackend({
    namespace: leaving,
    kubeconfig: cluster.plane.adminKubeconfig,
    storage: new FolderStorage(scratch),
  });
  await expect(there.start(aGang())).rejects.toThrow(/because it is being terminated: choose another namespace/);
  await there.close();
  await cluster.admin.patch(`/api/v1/namespaces/${leaving}/configmaps/held`, { metadata: { finalizers: [] } });
});

test("a webhook that refuses is quoted", async () => {
  const guarded = await plainNamespace(cluster);
  await cluster.admin.call("POST", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", {
    metadata: { name: "no-jobs" },
    spec: {
      failurePolicy: "Fail",
      matchConstraints: {
        resourceRules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
      },
      validations: [{ expression: "false", message: "no Jobs on Fridays" }],
    },
  });
  await cluster.admin.call("POST", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings", {
    metadata: { name: "no-jobs" },
    spec: {
      policyName: "no-jobs",
      validationActions: ["Deny"],
      matchResources: { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": guarded } } },
    },
  });
  const there = await aBackend({
    namespace: guarded,
    kubeconfig: cluster.plane.adminKubeconfig,
    storage: new FolderStorage(scratch),
  });
  await vi.waitFor(async () => await expect(there.start(aGang())).rejects.toThrow(/no Jobs on Fridays/), {
    timeout: 15_000,
    interval: 500,
  });
  await there.close();
});
