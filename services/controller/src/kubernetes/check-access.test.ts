import { expect, test } from "vitest";
import { checkAccess } from "./check-access.ts";
import type { KubeObject } from "./kube-objects.ts";

interface Asked {
  readonly spec: { readonly resourceAttributes: { readonly verb: string; readonly resource: string } };
}

/** A cluster that allows everything but these, as `verb resource`. */
function denying(...denied: string[]): Pick<Parameters<typeof checkAccess>[0], "create"> {
  return {
    create: async (_path, review) => {
      const { verb, resource } = (review as KubeObject & Asked).spec.resourceAttributes;
      return { ...review, status: { allowed: !denied.includes(`${verb} ${resource}`) } };
    },
  };
}

test("each right that is missing is named by verb and resource, with the file that grants it", async () => {
  await expect(checkAccess(denying("watch workloads", "patch jobs", "create secrets"), "runs", true)).rejects.toThrow(
    "the controller may not create secrets, watch workloads.kueue.x-k8s.io, patch jobs.batch in namespace runs: apply k8s/runs/rbac.yaml, or ask the cluster's owner for these rights",
  );
});

test("without Kueue its rights are not asked for", async () => {
  const cluster = denying("watch workloads", "list workloads", "patch jobs");
  await expect(checkAccess(cluster, "runs", false)).resolves.toBeUndefined();
});
