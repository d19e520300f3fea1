import { until } from "../support/embedded.ts";
import type { Cluster } from "../cluster/cluster.ts";
import type { KubeObject } from "../cluster/kube-client.ts";

/** The kubelet of a real node as a component of the cluster: `real-1` → `kubelet-1`. */
export function kubeletOf(node: string): string {
  return node.replace("real-", "kubelet-");
}

/** Marks a node for no new pods, or takes the mark away. */
export async function cordon(cluster: Cluster, node: string, unschedulable: boolean): Promise<void> {
  await cluster.admin.patch(`/api/v1/nodes/${node}`, { spec: { unschedulable } });
}

/** `kubectl drain`: cordons the node and evicts the pods of a namespace from it. Answers how many. */
export async function drain(cluster: Cluster, node: string, namespace: string): Promise<number> {
  await cordon(cluster, node, true);
  const pods = (await cluster.pods(namespace)).filter((pod) => nodeOf(pod) === node && isRunning(pod));
  for (const { metadata } of pods)
    await cluster.admin.call("POST", `/api/v1/namespaces/${namespace}/pods/${metadata.name}/eviction`, {
      apiVersion: "policy/v1",
      kind: "Eviction",
      metadata: { name: metadata.name, namespace },
    });
  return pods.length;
}

/** Waits until the cluster says that a node is ready, or is not. */
export async function nodeIs(cluster: Cluster, node: string, isReady: boolean): Promise<void> {
  await until(`node ${node} is ${isReady ? "" : "not "}ready`, async () => {
    const found = await cluster.admin.find(`/api/v1/nodes/${node}`).catch(() => null);
    const { conditions = [] } = (found?.["status"] ?? {}) as { conditions?: { type: string; status: string }[] };
    const status = conditions.find(({ type }) => type === "Ready")?.status;
    return (status === "True") === isReady && status !== undefined ? true : null;
  });
}

/** Node of a pod; empty while it has none. */
export function nodeOf({ spec }: KubeObject): string {
  return (spec as { nodeName?: string } | undefined)?.nodeName ?? "";
}

export function isRunning({ status }: KubeObject): boolean {
  return (status as { phase?: string } | undefined)?.phase === "Running";
}
