import { messageOf, type Logger } from "@drydock/kit";
import type { ClusterCapacity } from "../attempts/cluster-capacity.ts";
import { gangSettings } from "../kubernetes/gang-settings.ts";
import type { OpenCluster } from "../kubernetes/open-kubernetes.ts";
import { KubernetesFacts } from "./kubernetes-facts.ts";
import { KueueQueues } from "./kueue-queues.ts";
import { OtherPods } from "./other-pods.ts";

/** What is told of a cluster, and how it is no longer followed. */
export interface FollowedCluster {
  readonly facts: KubernetesFacts;
  close(): Promise<void>;
}

/**
 * Follows a cluster's nodes, the GPUs that others hold, and its queues: those of Kueue, or the quotas of our own admission.
 *
 * @param pools  our own admission; null where Kueue admits
 */
export async function followCluster(
  { api, backend }: Pick<OpenCluster, "api" | "backend">,
  namespace: string,
  pools: ClusterCapacity | null,
  logger: Logger,
): Promise<FollowedCluster> {
  const { productLabels } = gangSettings({ namespace, image: "" });
  const otherPods = new OtherPods({ api, namespace, logger });
  const kueue = new KueueQueues({
    api,
    namespace,
    productLabels,
    workloads: () => backend.workloads(),
    jobs: () => backend.jobs(),
    logger,
  });
  const facts = new KubernetesFacts({
    api,
    pods: () => backend.pods(),
    otherPods: () => otherPods.list(),
    productLabels,
    queues: pools ?? kueue,
    prioritise: (runId, priority) => {
      pools?.prioritise(runId, priority);
      backend
        .prioritise(runId, priority)
        .catch((error: unknown) => logger.warn({ runId, error: messageOf(error) }, "a Job keeps its old priority"));
    },
    onNodes: (nodes) => pools?.resize(nodes),
    logger,
  });
  const watches = [otherPods, facts, ...(pools === null ? [kueue] : [])];
  for (const watch of watches) await watch.connect();
  await facts.nodes();
  return {
    facts,
    close: async () => {
      await Promise.all(watches.map(async (watch) => await watch.close()));
    },
  };
}
