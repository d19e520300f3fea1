import { isDrydockError, type Logger } from "@drydock/kit";
import type { KubeApi } from "../kubernetes/kube-api.ts";
import type { KubeObject, PodObject } from "../kubernetes/kube-objects.ts";
import { ListWatch } from "../kubernetes/list-watch.ts";
import { labels, managedBy } from "../kubernetes/names.ts";

export interface OtherPodsOptions {
  readonly api: KubeApi;
  /** Namespace of our runs. */
  readonly namespace: string;
  readonly logger: Logger;
}

/** Pods that are over hold nothing. */
const isOpen = "status.phase!=Succeeded,status.phase!=Failed";

/**
 * Pods that are not ours and may hold GPUs, in our namespace and in all others. The right to see those of others is one that
 * an operator may withhold: GPUs that they hold then count as free.
 */
export class OtherPods {
  readonly #options: OtherPodsOptions;
  readonly #here: ListWatch<PodObject>;
  readonly #elsewhere: ListWatch<PodObject>;

  constructor(options: OtherPodsOptions) {
    const { api, namespace, logger } = options;
    this.#options = options;
    this.#here = new ListWatch<PodObject>({
      api,
      logger,
      path: `/api/v1/namespaces/${namespace}/pods`,
      labelSelector: `${labels.managedBy}!=${managedBy}`,
      fieldSelector: isOpen,
      reduce: onlyGpus,
    });
    this.#elsewhere = new ListWatch<PodObject>({
      api,
      logger,
      path: "/api/v1/pods",
      fieldSelector: `metadata.namespace!=${namespace},${isOpen}`,
      isClusterWide: true,
      reduce: onlyGpus,
    });
  }

  /** Follows them as far as our rights go. */
  async connect(): Promise<void> {
    for (const watch of [this.#here, this.#elsewhere])
      try {
        await watch.start();
      } catch (error) {
        if (!isDrydockError(error)) throw error;
        const { logger } = this.#options;
        logger.warn({ error: error.message }, "GPUs that others hold count as free: apply k8s/system/rbac.yaml");
      }
  }

  async close(): Promise<void> {
    await Promise.all([this.#here.stop(), this.#elsewhere.stop()]);
  }

  list(): PodObject[] {
    return [...this.#here.list(), ...this.#elsewhere.list()];
  }
}

/** A cluster has many pods, and of each only its node and its GPUs are of interest. */
function onlyGpus(object: KubeObject): PodObject {
  const { name, namespace = "", uid = "", resourceVersion = "" } = object.metadata;
  const { nodeName, containers = [] } = (object["spec"] ?? {}) as {
    nodeName?: string;
    containers?: { resources?: { limits?: Record<string, string> } }[];
  };
  const spec = {
    containers: containers.map(({ resources }) => ({ resources: { limits: resources?.limits ?? {} } })),
    ...(nodeName === undefined ? {} : { nodeName }),
  };
  return { metadata: { name, namespace, uid, resourceVersion }, spec, status: {} };
}
