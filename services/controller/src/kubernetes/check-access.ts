import { ForbiddenError } from "@drydock/kit";
import { z } from "zod";
import type { KubeApi } from "./kube-api.ts";

/** The least that the controller needs in the namespace of runs (k8s/runs/rbac.yaml). */
const needed: readonly { readonly group: string; readonly resource: string; readonly verbs: readonly string[] }[] = [
  { group: "batch", resource: "jobs", verbs: ["get", "list", "watch", "create", "delete"] },
  { group: "", resource: "pods", verbs: ["list", "watch", "delete"] },
  { group: "", resource: "secrets", verbs: ["create"] },
  { group: "", resource: "events", verbs: ["list"] },
];
/** Its queues are told of where we may read them; a Job's Workload says why it waits. */
const neededForKueue = [
  { group: "kueue.x-k8s.io", resource: "workloads", verbs: ["list", "watch"] },
  { group: "batch", resource: "jobs", verbs: ["patch"] },
];

const Review = z.looseObject({ status: z.looseObject({ allowed: z.boolean() }) });

/**
 * Asks the cluster whether we may do what we must.
 *
 * @throws ForbiddenError naming every verb and resource that is missing, and the file that grants them
 */
export async function checkAccess(api: Pick<KubeApi, "create">, namespace: string, usesKueue: boolean): Promise<void> {
  const rights = [...needed, ...(usesKueue ? neededForKueue : [])].flatMap(({ group, resource, verbs }) =>
    verbs.map((verb) => ({ group, resource, verb })),
  );
  const answers = await Promise.all(
    rights.map(async (right) => ({ ...right, isAllowed: await isAllowed(api, namespace, right) })),
  );
  const missing = answers
    .filter(({ isAllowed: allowed }) => !allowed)
    .map(({ group, resource, verb }) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`);
  if (missing.length === 0) return;
  throw new ForbiddenError(
    "kube_forbidden",
    `the controller may not ${missing.join(", ")} in namespace ${namespace}: apply k8s/runs/rbac.yaml, or ask the cluster's owner for these rights`,
  );
}

async function isAllowed(
  api: Pick<KubeApi, "create">,
  namespace: string,
  { group, resource, verb }: { readonly group: string; readonly resource: string; readonly verb: string },
): Promise<boolean> {
  const review = await api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SelfSubjectAccessReview",
    metadata: { name: "" },
    spec: { resourceAttributes: { namespace, group, resource, verb } },
  });
  return Review.parse(review).status.allowed;
}
