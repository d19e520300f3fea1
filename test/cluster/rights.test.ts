import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cluster } from "./cluster.ts";
import { jobOf } from "./job-fixtures.ts";
import { KubeClient } from "./kube-client.ts";
import { sharedCluster } from "./shared-cluster.ts";

let cluster: Cluster;
let runs: string;
let controller: KubeClient;
beforeAll(async () => {
  cluster = await sharedCluster();
  runs = await cluster.namespace("rights");
  const authority = Buffer.from(await cluster.plane.authority.bundle(), "base64");
  controller = new KubeClient(cluster.plane.server, authority, await cluster.controllerToken());
});
afterAll(async () => {
  await cluster?.admin.call("DELETE", `/api/v1/namespaces/${runs}`);
});

const system = "drydock-system";
const core = "";

interface Wish {
  readonly verb: string;
  readonly group?: string;
  readonly resource: string;
  readonly subresource?: string;
  readonly namespace: string | null;
}

/** What the API server's authorizer says, without doing it. `runs` stands for the namespace of this file. */
async function mayController({ verb, group = core, resource, subresource = "", namespace }: Wish): Promise<boolean> {
  const place = namespace === "runs" ? runs : namespace;
  const resourceAttributes = { verb, group, resource, subresource, ...(place === null ? {} : { namespace: place }) };
  const answer = await controller.call<{ status: { allowed: boolean } }>(
    "POST",
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes },
    },
  );
  return answer.status.allowed;
}

function each(group: string, resource: string, verbs: readonly string[], namespace: string | null = "runs"): Wish[] {
  const [name = "", subresource = ""] = resource.split("/");
  return verbs.map((verb) => ({ verb, group, resource: name, subresource, namespace }));
}

const allowed: readonly Wish[] = [
  ...each("batch", "jobs", ["get", "list", "watch", "create", "delete", "patch"]),
  ...each(core, "pods", ["get", "list", "watch", "delete"]),
  ...each(core, "pods/log", ["get"]),
  ...each(core, "secrets", ["create", "delete"]),
  ...each(core, "events", ["get", "list", "watch"]),
  ...each("kueue.x-k8s.io", "workloads", ["get", "list", "watch"]),
  ...each("kueue.x-k8s.io", "localqueues", ["get", "list", "watch"]),
  ...each("kueue.x-k8s.io", "clusterqueues", ["get", "list", "watch"], null),
  ...each("kueue.x-k8s.io", "cohorts", ["get", "list", "watch"], null),
  ...each("kueue.x-k8s.io", "resourceflavors", ["get", "list", "watch"], null),
  ...each(core, "pods", ["list", "watch"], null),
  ...each("coordination.k8s.io", "leases", ["get", "create", "update"], system),
  ...each(core, "nodes", ["get", "list", "watch"], null),
];

const denied: readonly Wish[] = [
  ...each(core, "pods", ["create", "update", "patch"]),
  ...each(core, "pods/exec", ["create", "get"]),
  ...each(core, "pods/attach", ["create", "get"]),
  ...each(core, "secrets", ["get", "list", "watch", "update", "patch"]),
  ...each(core, "pods", ["get", "delete"], "default"),
  ...each("kueue.x-k8s.io", "workloads", ["create", "update", "patch", "delete"]),
  ...each("kueue.x-k8s.io", "clusterqueues", ["create", "update", "patch", "delete"], null),
  ...each("kueue.x-k8s.io", "localqueues", ["create", "update", "patch", "delete"]),
  ...each("jobset.x-k8s.io", "jobsets", ["create", "list"]),
  ...each(core, "configmaps", ["get", "create", "delete", "patch"]),
  ...each(core, "services", ["get", "create", "delete", "patch"]),
  ...each(core, "serviceaccounts/token", ["create"]),
  ...each("rbac.authorization.k8s.io", "roles", ["create", "escalate", "bind"]),
  ...each("rbac.authorization.k8s.io", "rolebindings", ["create"]),
  ...each("batch", "jobs", ["create", "list"], "default"),
  ...each(core, "secrets", ["get", "create"], system),
  ...each(core, "nodes", ["patch", "delete"], null),
  ...each(core, "namespaces", ["create", "delete", "list"], null),
  ...each("coordination.k8s.io", "leases", ["delete", "list"], system),
];

const named = (wishes: readonly Wish[]): [string, Wish][] =>
  wishes.map((wish) => [
    `${wish.verb} ${wish.resource}${wish.subresource ? `/${wish.subresource}` : ""} in ${wish.namespace ?? "the cluster"}`,
    wish,
  ]);

test.each(named(allowed))("the controller may %s", async (_, wish) => {
  expect(await mayController(wish)).toBe(true);
});

test.each(named(denied))("the controller may not %s", async (_, wish) => {
  expect(await mayController(wish)).toBe(false);
});

test("the controller starts a Job with its token; a pod it may not make, by name of verb and resource", async () => {
  const job = jobOf("allowed", { ranks: 1, gpus: 1, image: "drydock.test/quick:1" });
  await controller.call("POST", `/apis/batch/v1/namespaces/${runs}/jobs`, job);
  await expect(
    controller.call("POST", `/api/v1/namespaces/${runs}/pods`, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "denied" },
      spec: { containers: [{ name: "main", image: "drydock.test/worker:1" }] },
    }),
  ).rejects.toThrow(/403.*drydock-controller.* cannot create resource \\"pods\\"/);
});

test("the API server knows the controller by its service account", async () => {
  const review = { apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" };
  expect(await controller.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review)).toMatchObject({
    status: { userInfo: { username: "system:serviceaccount:drydock-system:drydock-controller" } },
  });
});

test("the worker's account may do nothing with runs", async () => {
  const review = await cluster.admin.call<{ status: { allowed: boolean } }>(
    "POST",
    "/apis/authorization.k8s.io/v1/subjectaccessreviews",
    {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SubjectAccessReview",
      spec: {
        user: `system:serviceaccount:${runs}:drydock-worker`,
        resourceAttributes: { verb: "get", group: "batch", resource: "jobs", namespace: runs },
      },
    },
  );
  expect(review.status.allowed).toBe(false);
});
