import { createLogger, type ObjectStorage } from "@drydock/kit";
import type { Gang } from "../../services/controller/src/backend/cluster-backend.ts";
import type { WorkerPodSettings } from "../../services/controller/src/kubernetes/gang-manifests.ts";
import { gangSettings } from "../../services/controller/src/kubernetes/gang-settings.ts";
import { KubeApi } from "../../services/controller/src/kubernetes/kube-api.ts";
import { connectToCluster } from "../../services/controller/src/kubernetes/kube-connection.ts";
import { KubernetesBackend } from "../../services/controller/src/kubernetes/kubernetes-backend.ts";
import { jobName } from "../../services/controller/src/kubernetes/names.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { KubeObject } from "../cluster/kube-client.ts";
import { vi } from "vitest";

export interface BackendChoice {
  readonly namespace: string;
  readonly kubeconfig: string;
  readonly storage: ObjectStorage;
  readonly settings?: Partial<WorkerPodSettings>;
}

/** A back end as a controller has it, quick to look. */
export async function aBackend({
  namespace,
  kubeconfig,
  storage,
  settings,
}: BackendChoice): Promise<KubernetesBackend> {
  const backend = new KubernetesBackend({
    api: new KubeApi(await connectToCluster(kubeconfig), { retryBudgetMs: 30_000 }),
    settings: gangSettings({ namespace, image: "drydock.test/worker:1", nodeLossSeconds: 2, ...settings }),
    storage,
    logger: createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" }),
    lookMs: 200,
    hopelessAfterMs: 1000,
  });
  await backend.connect();
  return backend;
}

/** A namespace without Kueue's queues, in which an admin's kubeconfig is used. */
export async function plainNamespace(cluster: Cluster): Promise<string> {
  const name = `plain-${Math.random().toString(36).slice(2, 8)}`;
  await cluster.admin.call("POST", "/api/v1/namespaces", { metadata: { name } });
  return name;
}

export function phaseOf(pod: KubeObject): string {
  return (pod["status"] as { phase?: string } | undefined)?.phase ?? "";
}

/** Waits until every rank of a gang runs; answers its pods. */
export async function runningPods(cluster: Cluster, namespace: string, gang: Gang): Promise<KubeObject[]> {
  return await vi.waitUntil(
    async () => {
      const pods = await cluster.pods(namespace, `drydock.dev/gang=${jobName(gang.name)}`);
      return pods.length === gang.ranks && pods.every((pod) => phaseOf(pod) === "Running") ? pods : null;
    },
    { timeout: 30_000, interval: 100 },
  );
}
