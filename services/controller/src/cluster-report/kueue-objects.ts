import type { Condition, KubeObject } from "../kubernetes/kube-objects.ts";

/** A Kubernetes quantity: `24`, `"24"`, `"1k"`. */
export type Quantity = string | number;

interface FlavorQuotas {
  readonly name: string;
  readonly resources?: readonly {
    readonly name: string;
    readonly nominalQuota?: Quantity;
    readonly borrowingLimit?: Quantity;
    readonly lendingLimit?: Quantity;
  }[];
}

/** Quotas of a ClusterQueue or a Cohort. */
export interface QuotaHolder {
  readonly resourceGroups?: readonly { readonly flavors?: readonly FlavorQuotas[] }[];
  readonly fairSharing?: { readonly weight?: Quantity };
}

type StopPolicy = "None" | "Hold" | "HoldAndDrain";

/** What we read of Kueue's LocalQueue. */
export interface LocalQueueObject extends KubeObject {
  readonly spec?: { readonly clusterQueue?: string; readonly stopPolicy?: StopPolicy };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

/** What we read of Kueue's ClusterQueue. */
export interface ClusterQueueObject extends KubeObject {
  readonly spec?: QuotaHolder & { readonly cohortName?: string; readonly stopPolicy?: StopPolicy };
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly flavorsReservation?: readonly {
      readonly name: string;
      readonly resources?: readonly {
        readonly name: string;
        readonly total?: Quantity;
        readonly borrowed?: Quantity;
      }[];
    }[];
    readonly pendingWorkloads?: number;
    readonly admittedWorkloads?: number;
    readonly fairSharing?: { readonly weightedShare?: number };
  };
}

/** What we read of Kueue's Cohort; one that has no quota of its own need not exist as an object. */
export interface CohortObject extends KubeObject {
  readonly spec?: QuotaHolder & { readonly parentName?: string };
}

/** What we read of Kueue's ResourceFlavor. */
export interface ResourceFlavorObject extends KubeObject {
  readonly spec?: { readonly nodeLabels?: Readonly<Record<string, string>> };
}

/** Kueue's state of the queues of one namespace, as it was listed. */
export interface KueueState {
  readonly localQueues: readonly LocalQueueObject[];
  readonly clusterQueues: readonly ClusterQueueObject[];
  readonly cohorts: readonly CohortObject[];
  readonly flavors: readonly ResourceFlavorObject[];
}

/** A Kubernetes quantity as a number; 0 when absent. Fractions, thousands and millions are enough for GPUs and weights. */
export function amountOf(quantity: Quantity | undefined): number {
  const [, digits = "0", suffix = ""] = /^(\d+(?:\.\d+)?)(m|k|M)?/.exec(String(quantity ?? 0)) ?? [];
  const factor = { m: 0.001, k: 1e3, M: 1e6 }[suffix] ?? 1;
  return Number(digits) * factor;
}

/** The same as a whole number: GPUs are never split here. */
export function wholeOf(quantity: Quantity | undefined): number {
  return Math.floor(amountOf(quantity));
}
