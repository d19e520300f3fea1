import type { Condition, KubeObject } from "./kube-objects.ts";

/** What we read of Kueue's Workload. */
export interface WorkloadObject extends KubeObject {
  readonly metadata: KubeObject["metadata"] & {
    readonly ownerReferences?: readonly { readonly uid: string }[];
  };
  readonly spec?: {
    readonly queueName?: string;
    readonly priority?: number;
    /** False: taken out until somebody sets it again. */
    readonly active?: boolean;
  };
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly requeueState?: { readonly count?: number; readonly requeueAt?: string };
  };
}

/** True while a workload waits for quota. */
export function isPending(workload: WorkloadObject): boolean {
  return !holds(workload, "QuotaReserved") && !holds(workload, "Finished");
}

/** Kueue 0.18's words for a request over what the queue and its cohort hold together. */
const neverFits = /insufficient quota for (\S+) in .*current podset request \((\d+)\) > maximum capacity \((\d+)\)/;

/** Why a workload waits in its queue, from its conditions; null: Kueue has not made one yet. Pure. */
export function whyKueueHolds(workload: WorkloadObject | null): string {
  if (workload === null) return "waits in its queue for Kueue to look at it";
  const evicted = find(workload, "Evicted", "True");
  if (workload.spec?.active === false)
    return `Kueue has deactivated its Workload ${workload.metadata.name}${because(evicted)}: set .spec.active to true to let it wait again, or cancel the run`;
  const { requeueAt, count = 0 } = workload.status?.requeueState ?? {};
  if (evicted && requeueAt !== undefined)
    return `was taken out of its queue's quota${because(evicted)}; Kueue tries it again at ${requeueAt}, after ${count} ${count === 1 ? "try" : "tries"}`;
  const waiting = find(workload, "QuotaReserved", "False");
  if (waiting) return withoutQuota(waiting);
  if (evicted) return `was taken out of its queue's quota: ${wordsOf(evicted)}`;
  return "waits in its queue for Kueue to look at it";
}

function withoutQuota(waiting: Condition): string {
  const [, resource = "", asked, most] = neverFits.exec(waiting.message ?? "") ?? [];
  if (asked === undefined || most === undefined) return `waits in its queue: ${wordsOf(waiting)}`;
  return `asks for ${asked} × ${resource}, and its queue can never have more than ${most}: ask for fewer, or have the quota raised (Kueue: ${waiting.message})`;
}

/** What a condition says: its sentence, or at least its reason. */
function wordsOf({ message, reason, type }: Condition): string {
  return message ?? reason ?? type;
}

const preemptedBecause: Readonly<Record<string, string>> = {
  InClusterQueue: "it goes first in their queue",
  InCohortReclamation: "its queue took back what it had lent",
  InCohortFairSharing: "its queue has less than its fair share",
  InCohortReclaimWhileBorrowing: "its queue borrows with a higher priority",
};

const evictedBecause: Readonly<Record<string, string>> = {
  PodsReadyTimeout: "not all of its pods were ready in time",
  AdmissionCheck: "an admission check was taken back",
  ClusterQueueStopped: "its ClusterQueue was stopped",
  LocalQueueStopped: "its LocalQueue was stopped",
  NodeFailures: "its nodes failed",
  Deactivated: "its Workload was deactivated",
};

/**
 * Who took a gang's GPUs and why, as far as Kueue tells. Pure.
 *
 * @param nameOf  what the Job of this uid is called for a person; null when it is none of ours
 */
export function whyEvicted(workload: WorkloadObject | null, nameOf: (jobUid: string) => string | null): string {
  const preempted = workload === null ? undefined : find(workload, "Preempted", "True");
  const evicted = workload === null ? undefined : find(workload, "Evicted", "True");
  if (preempted && (evicted === undefined || evicted.reason === "Preempted")) {
    const [, uid = ""] = /JobUID: ([^)\s]+)/.exec(preempted.message ?? "") ?? [];
    const reason = preemptedBecause[preempted.reason ?? ""] ?? wordsOf(preempted);
    return `its GPUs went to ${nameOf(uid) ?? `work that is not Drydock's (Job ${uid === "" ? "unknown" : uid})`}: ${reason}`;
  }
  if (evicted) return `Kueue took its GPUs back: ${evictedBecause[evicted.reason ?? ""] ?? wordsOf(evicted)}`;
  return "the queue took its GPUs back";
}

function because(condition: Condition | undefined): string {
  if (condition === undefined) return "";
  return `, because ${evictedBecause[condition.reason ?? ""] ?? wordsOf(condition)}`;
}

function find(workload: WorkloadObject, type: string, status: string): Condition | undefined {
  return workload.status?.conditions?.find((condition) => condition.type === type && condition.status === status);
}

function holds(workload: WorkloadObject, type: string): boolean {
  return find(workload, type, "True") !== undefined;
}
