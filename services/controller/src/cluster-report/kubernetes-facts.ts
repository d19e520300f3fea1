import { isDrydockError, type Logger } from "@drydock/kit";
import type { ClusterNode, ClusterReportAnswer, QueueFacts, RunSpec } from "@drydock/spec";
import type { KubeApi } from "../kubernetes/kube-api.ts";
import type { KubeObject, PodObject } from "../kubernetes/kube-objects.ts";
import { ListWatch } from "../kubernetes/list-watch.ts";
import { labels } from "../kubernetes/names.ts";
import type { ClusterFacts } from "./cluster-facts.ts";

/** What we read of a node. */
export interface NodeObject extends KubeObject {
  readonly spec?: {
    readonly unschedulable?: boolean;
    readonly taints?: readonly { readonly key: string; readonly value?: string; readonly effect: string }[];
  };
  readonly status?: {
    readonly allocatable?: Readonly<Record<string, string>>;
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

export interface KubernetesFactsOptions {
  readonly api: KubeApi;
  /** Pods of workers that are known now, from the back end's own watch. */
  readonly pods: () => readonly PodObject[];
  /** Pods that are not of our runs, as far as we may see them. */
  readonly otherPods: () => readonly PodObject[];
  /** Labels of nodes by accelerator of the catalogue, as the back end places by. */
  readonly productLabels: Readonly<Record<string, readonly string[]>>;
  /** Told which priority a run that waits has now: our own admission, and Jobs that wait in Kueue. */
  readonly prioritise: (runId: string, priority: RunSpec["priority"]) => void;
  /** Who knows the queues: Kueue's, or our own quotas. */
  readonly queues: QueueSource;
  /** Told of the nodes whenever they are looked at. */
  readonly onNodes?: (nodes: readonly ClusterNode[]) => void;
  readonly logger: Logger;
}

/** Who knows what queues may use. */
export interface QueueSource {
  queues(): QueueFacts[];
  /** Why a queue that it does not know admits nobody; null: any name is a queue. */
  unlistedQueues(): string | null;
}

const gpuResource = "nvidia.com/gpu";
const productLabel = "nvidia.com/gpu.product";
const rackLabels = ["topology.kubernetes.io/rack", "cloud.google.com/gce-topology-subblock", "drydock.dev/rack"];
const blockLabels = ["topology.kubernetes.io/block", "cloud.google.com/gce-topology-block", "drydock.dev/block"];
/** Every worker tolerates these. */
const toleratedTaints = [gpuResource];

/** Nodes of a cluster with their GPUs, and its queues. */
export class KubernetesFacts implements ClusterFacts {
  readonly backend = "kubernetes";
  readonly #options: KubernetesFactsOptions;
  readonly #nodes: ListWatch<NodeObject>;

  constructor(options: KubernetesFactsOptions) {
    this.#options = options;
    this.#nodes = new ListWatch<NodeObject>({ api: options.api, path: "/api/v1/nodes", logger: options.logger });
  }

  /** Follows the nodes. Without the right to read them nothing is told of them: runs go on all the same. */
  async connect(): Promise<void> {
    try {
      await this.#nodes.start();
    } catch (error) {
      if (!isDrydockError(error)) throw error;
      this.#options.logger.warn({ error: error.message }, "nodes are not told of: apply k8s/system/rbac.yaml");
    }
  }

  async close(): Promise<void> {
    await this.#nodes.stop();
  }

  async nodes(): Promise<ClusterNode[]> {
    const { pods, otherPods, productLabels, onNodes } = this.#options;
    const nodes = nodesWithGpus(this.#nodes.list(), pods(), productLabels, otherPods());
    onNodes?.(nodes);
    return nodes;
  }

  async queues(): Promise<QueueFacts[]> {
    return this.#options.queues.queues();
  }

  unlistedQueues(): string | null {
    return this.#options.queues.unlistedQueues();
  }

  onWaiting(waiting: ClusterReportAnswer["waiting"]): void {
    for (const { runId, priority } of waiting) this.#options.prioritise(runId, priority);
  }
}

/** The nodes that have GPUs, with what pods leave free of them. Pure. */
export function nodesWithGpus(
  nodes: readonly NodeObject[],
  pods: readonly PodObject[],
  productLabels: Readonly<Record<string, readonly string[]>>,
  otherPods: readonly PodObject[] = [],
): ClusterNode[] {
  const held = gpusByNode(pods);
  const heldByOthers = gpusOfOthers(otherPods);
  return nodes.flatMap((node) => {
    const total = Number(node.status?.allocatable?.[gpuResource] ?? 0);
    if (total === 0) return [];
    const { name } = node.metadata;
    const product = node.metadata.labels?.[productLabel];
    const runs = [...(held.get(name) ?? [])].map(([runId, gpus]) => ({ runId, gpus }));
    const taints = (node.spec?.taints ?? []).map(({ key, value = null, effect }) => ({ key, value, effect }));
    const known = Object.entries(productLabels).find(([, products]) => products.includes(product ?? ""));
    const others = Math.min(total, heldByOthers.get(name) ?? 0);
    const used = others + runs.reduce((sum, { gpus }) => sum + gpus, 0);
    return [
      {
        name,
        isReady: readiness(node) === null,
        accelerator: known?.[0] ?? null,
        gpus: { total, free: Math.max(0, total - used) },
        heldByOthers: others,
        rack: firstLabel(node, rackLabels),
        block: firstLabel(node, blockLabels),
        taints,
        unusable: whyUnusable(node, known === undefined ? (product ?? "none") : null),
        runs,
      },
    ];
  });
}

function whyUnusable(node: NodeObject, unknownProduct: string | null): string | null {
  if (node.metadata.deletionTimestamp !== undefined) return "it is being deleted";
  const notReady = readiness(node);
  if (notReady !== null) return notReady;
  if (node.spec?.unschedulable === true) return "it is cordoned";
  if (unknownProduct !== null) return `its label ${productLabel} is "${unknownProduct}", which no accelerator has`;
  const taint = node.spec?.taints?.find(
    ({ key, effect }) => effect !== "PreferNoSchedule" && !toleratedTaints.includes(key),
  );
  return taint === undefined ? null : `it has the taint ${taint.key}:${taint.effect}, which workers do not tolerate`;
}

function readiness({ status }: NodeObject): string | null {
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  if (ready?.status === "True") return null;
  return `it is not ready${ready?.message === undefined || ready.message === "" ? "" : `: ${ready.message}`}`;
}

/** GPUs of pods that have a node and are not over, by node and run. */
function gpusByNode(pods: readonly PodObject[]): Map<string, Map<string, number>> {
  const held = new Map<string, Map<string, number>>();
  for (const pod of pods) {
    const { nodeName } = pod.spec ?? {};
    const runId = pod.metadata.labels?.[labels.run];
    const isOver = pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
    const gpus = gpusOf(pod);
    if (nodeName === undefined || runId === undefined || isOver || gpus === 0) continue;
    const onNode = held.get(nodeName) ?? new Map<string, number>();
    onNode.set(runId, (onNode.get(runId) ?? 0) + gpus);
    held.set(nodeName, onNode);
  }
  return held;
}

function gpusOfOthers(pods: readonly PodObject[]): Map<string, number> {
  const held = new Map<string, number>();
  for (const pod of pods) {
    const { nodeName } = pod.spec ?? {};
    if (nodeName !== undefined) held.set(nodeName, (held.get(nodeName) ?? 0) + gpusOf(pod));
  }
  return held;
}

function gpusOf(pod: PodObject): number {
  const containers = (pod.spec as { containers?: { resources?: { limits?: Record<string, string> } }[] } | undefined)
    ?.containers;
  return (containers ?? []).reduce((sum, { resources }) => sum + Number(resources?.limits?.[gpuResource] ?? 0), 0);
}

function firstLabel(node: NodeObject, names: readonly string[]): string | null {
  const values = names.flatMap((name) => node.metadata.labels?.[name] ?? []);
  return values[0] ?? null;
}
