import { isDrydockError, type Logger } from "@drydock/kit";
import type { QueueFacts, QueueQuota } from "@drydock/spec";
import type { KubeApi } from "../kubernetes/kube-api.ts";
import { labels } from "../kubernetes/names.ts";
import type { Condition, JobObject, KubeObject } from "../kubernetes/kube-objects.ts";
import { isPending, type WorkloadObject } from "../kubernetes/kueue-workload.ts";
import { ListWatch } from "../kubernetes/list-watch.ts";
import {
  amountOf,
  type ClusterQueueObject,
  type CohortObject,
  type KueueState,
  type LocalQueueObject,
  type ResourceFlavorObject,
} from "./kueue-objects.ts";
import { gpuFlavors, KueueQuotas, ownQuota, reservedOf } from "./kueue-quotas.ts";

export interface KueueQueuesOptions {
  readonly api: KubeApi;
  readonly namespace: string;
  /** Labels of nodes by accelerator of the catalogue. */
  readonly productLabels: Readonly<Record<string, readonly string[]>>;
  /** Workloads and Jobs of the namespace, from the back end's own watches. */
  readonly workloads: () => readonly WorkloadObject[];
  readonly jobs: () => readonly JobObject[];
  readonly logger: Logger;
}

const root = "/apis/kueue.x-k8s.io/v1beta2";
const productLabel = "nvidia.com/gpu.product";

/** Follows Kueue's queues and tells what each may use, what it uses, and why it admits nobody. */
export class KueueQueues {
  readonly #options: KueueQueuesOptions;
  readonly #localQueues: ListWatch<LocalQueueObject>;
  readonly #clusterQueues: ListWatch<ClusterQueueObject>;
  readonly #cohorts: ListWatch<CohortObject>;
  readonly #flavors: ListWatch<ResourceFlavorObject>;
  /** Why nothing is told of the queues; null while they are followed. */
  #blindBecause: string | null = "their first list has not come yet";

  constructor(options: KueueQueuesOptions) {
    const { api, logger, namespace } = options;
    this.#options = options;
    const follow = <T extends KubeObject>(path: string): ListWatch<T> =>
      new ListWatch<T>({ api, logger, path: `${root}/${path}` });
    this.#localQueues = follow<LocalQueueObject>(`namespaces/${namespace}/localqueues`);
    this.#clusterQueues = follow<ClusterQueueObject>("clusterqueues");
    this.#cohorts = follow<CohortObject>("cohorts");
    this.#flavors = follow<ResourceFlavorObject>("resourceflavors");
  }

  /** Follows the queues. Without the rights to read them nothing is told of them: runs go on all the same. */
  async connect(): Promise<void> {
    try {
      await Promise.all(this.#watches().map(async (watch) => await watch.start()));
      this.#blindBecause = null;
    } catch (error) {
      if (!isDrydockError(error)) throw error;
      this.#blindBecause = error.message;
      this.#options.logger.warn({ error: error.message }, "queues are not told of: apply k8s/system and k8s/runs");
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#watches().map(async (watch) => await watch.stop()));
  }

  queues(): QueueFacts[] {
    if (this.#blindBecause !== null) return [];
    const { productLabels, workloads, jobs } = this.#options;
    const state = {
      localQueues: this.#localQueues.list(),
      clusterQueues: this.#clusterQueues.list(),
      cohorts: this.#cohorts.list(),
      flavors: this.#flavors.list(),
    };
    return kueueQueueFacts(state, productLabels, workloads(), jobs());
  }

  /** Why a queue that {@link queues} does not have admits nobody; null when that is not known. */
  unlistedQueues(): string | null {
    if (this.#blindBecause !== null) return null;
    const { namespace } = this.#options;
    const names = this.#localQueues.list().map(({ metadata }) => metadata.name);
    const others = names.length === 0 ? "" : `, or use ${names.toSorted().join(" or ")}`;
    return `there is no LocalQueue of its name in namespace ${namespace}: make one as in k8s/queues/local-queues.yaml${others}`;
  }

  #watches(): ListWatch<KubeObject>[] {
    return [this.#localQueues, this.#clusterQueues, this.#cohorts, this.#flavors] as ListWatch<KubeObject>[];
  }
}

/** Each LocalQueue with what its ClusterQueue says, by accelerator. Pure. */
export function kueueQueueFacts(
  state: KueueState,
  productLabels: KueueQueuesOptions["productLabels"],
  workloads: readonly WorkloadObject[],
  jobs: readonly JobObject[],
): QueueFacts[] {
  const clusterQueues = new Map(state.clusterQueues.map((queue) => [queue.metadata.name, queue]));
  const accelerators = new Map(
    state.flavors.map((flavor) => [flavor.metadata.name, acceleratorOf(flavor, productLabels)]),
  );
  const quotas = new KueueQuotas(state);
  const orders = admissionOrders(workloads, jobs);
  return state.localQueues
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .map((local) => {
      const { name } = local.metadata;
      const clusterName = local.spec?.clusterQueue ?? "";
      const cluster = clusterQueues.get(clusterName);
      return {
        name,
        quotas: cluster === undefined ? [] : quotasOf(cluster, quotas, accelerators),
        stopped: whyStopped(local, clusterName, cluster),
        order: orders.get(name) ?? [],
        clusterQueue: cluster === undefined ? null : describe(cluster),
      };
    });
}

/** A flavor's accelerator by the label of its nodes; one that says nothing we know keeps its own name. */
function acceleratorOf(
  { metadata, spec }: ResourceFlavorObject,
  productLabels: KueueQueuesOptions["productLabels"],
): string {
  const product = spec?.nodeLabels?.[productLabel];
  const known = Object.entries(productLabels).find(
    ([, products]) => product !== undefined && products.includes(product),
  );
  return known?.[0] ?? metadata.name;
}

function quotasOf(
  cluster: ClusterQueueObject,
  quotas: KueueQuotas,
  accelerators: ReadonlyMap<string, string>,
): QueueQuota[] {
  const byAccelerator = new Map<string, QueueQuota>();
  for (const flavor of gpuFlavors(cluster)) {
    const accelerator = accelerators.get(flavor) ?? flavor;
    const before = byAccelerator.get(accelerator);
    const { nominal, borrowingLimit } = ownQuota(cluster.spec, flavor);
    const { used, borrowed } = reservedOf(cluster, flavor);
    byAccelerator.set(accelerator, {
      accelerator,
      gpus: nominal + (before?.gpus ?? 0),
      mayBorrow: Math.max(0, quotas.limitOf(cluster, flavor) - nominal) + (before?.mayBorrow ?? 0),
      used: used + (before?.used ?? 0),
      borrowed: borrowed + (before?.borrowed ?? 0),
      borrowingLimit:
        before === undefined
          ? borrowingLimit
          : borrowingLimit === null || before.borrowingLimit === null
            ? null
            : borrowingLimit + before.borrowingLimit,
    });
  }
  return [...byAccelerator.values()];
}

function describe({ metadata, spec, status }: ClusterQueueObject): QueueFacts["clusterQueue"] {
  return {
    name: metadata.name,
    cohort: spec?.cohortName ?? null,
    pendingWorkloads: status?.pendingWorkloads ?? 0,
    admittedWorkloads: status?.admittedWorkloads ?? 0,
    fairShareWeight: spec?.fairSharing?.weight === undefined ? 1 : amountOf(spec.fairSharing.weight),
    weightedShare: status?.fairSharing?.weightedShare ?? null,
  };
}

/** A sentence that says why the queue admits nobody; null when it does. */
function whyStopped(
  local: LocalQueueObject,
  clusterName: string,
  cluster: ClusterQueueObject | undefined,
): string | null {
  if (cluster === undefined)
    return `its ClusterQueue ${clusterName} does not exist: make it, or name another one in the LocalQueue`;
  const hold = (kind: string, name: string): string => `its ${kind} ${name} is on hold (spec.stopPolicy)`;
  const isHeld = (policy: string | undefined): boolean => policy !== undefined && policy !== "None";
  if (isHeld(local.spec?.stopPolicy)) return hold("LocalQueue", local.metadata.name);
  if (isHeld(cluster.spec?.stopPolicy)) return hold("ClusterQueue", clusterName);
  const inactive = falseCondition(cluster.status?.conditions) ?? falseCondition(local.status?.conditions);
  return inactive === undefined
    ? null
    : `its ClusterQueue ${clusterName} is not active (${inactive.reason ?? "no reason given"}): ${inactive.message ?? ""}`;
}

function falseCondition(conditions: readonly Condition[] | undefined): Condition | undefined {
  return conditions?.find(({ type, status }) => type === "Active" && status === "False");
}

/** Runs that wait in each LocalQueue in Kueue's order: by priority, then age. */
function admissionOrders(workloads: readonly WorkloadObject[], jobs: readonly JobObject[]): Map<string, string[]> {
  const runs = new Map(jobs.map(({ metadata }) => [metadata.uid, metadata.labels?.[labels.run]]));
  const waiting = workloads.filter(isPending).flatMap((workload) => {
    const run = (workload.metadata.ownerReferences ?? []).flatMap(({ uid }) => runs.get(uid) ?? [])[0];
    return run === undefined ? [] : [{ run, workload }];
  });
  waiting.sort(
    (a, b) =>
      (b.workload.spec?.priority ?? 0) - (a.workload.spec?.priority ?? 0) ||
      compare(a.workload.metadata.creationTimestamp ?? "", b.workload.metadata.creationTimestamp ?? "") ||
      compare(a.run, b.run),
  );
  const orders = new Map<string, string[]>();
  for (const { run, workload } of waiting) {
    const queue = workload.spec?.queueName ?? "";
    const order = orders.get(queue);
    if (order) order.push(run);
    else orders.set(queue, [run]);
  }
  return orders;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
