import type { Condition, JobObject, KubeObject, PodObject } from "./kube-objects.ts";
import { hopelessBecause } from "./rank-end.ts";

/** What we read of Kueue's Workload. */
export interface WorkloadObject extends KubeObject {
  readonly metadata: KubeObject["metadata"] & {
    readonly ownerReferences?: readonly { readonly uid: string }[];
  };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface WaitingFacts {
  readonly job: JobObject;
  readonly pods: readonly PodObject[];
  /** Kueue's view; null without Kueue. */
  readonly workload: WorkloadObject | null;
  /** Why the Job controller could make no pod; null when it could. */
  readonly creationFailure: string | null;
}

export interface Waiting {
  readonly sentence: string;
  /** True when no time mends it. */
  readonly isHopeless: boolean;
}

/** Says why a gang does not run yet; null when it may any moment. Pure. */
export function whyItWaits({ job, pods, workload, creationFailure }: WaitingFacts): Waiting | null {
  if (creationFailure !== null) return fromCreation(creationFailure);
  if (job.spec?.suspend === true) return { sentence: fromQueue(workload), isHopeless: false };
  for (const pod of pods) {
    const hopeless = hopelessBecause(pod);
    if (hopeless) return { sentence: `a worker's pod cannot start: ${hopeless.message}`, isHopeless: false };
  }
  const unscheduled = pods.flatMap(({ status }) =>
    (status?.conditions ?? []).filter(({ type, status: value }) => type === "PodScheduled" && value === "False"),
  );
  const [first] = unscheduled;
  if (!first) return null;
  return {
    sentence: `${unscheduled.length} of ${pods.length} workers ${unscheduled.length === 1 ? "has" : "have"} no node yet: ${readable(first.message ?? first.reason ?? "unschedulable")}`,
    isHopeless: false,
  };
}

/** Quota comes back when others end; a policy does not change by waiting. */
function fromCreation(message: string): Waiting {
  const isQuota = /exceeded quota/.test(message);
  return {
    sentence: isQuota
      ? `the namespace's quota is used up: ${message}`
      : `the cluster refuses the worker's pod: ${message}`,
    isHopeless: /violates PodSecurity|is forbidden/.test(message) && !isQuota,
  };
}

/** Kueue 0.18's words for a request over what the queue and its cohort hold together. */
const neverFits = /insufficient quota for (\S+) in .*current podset request \((\d+)\) > maximum capacity \((\d+)\)/;

function fromQueue(workload: WorkloadObject | null): string {
  const conditions = workload?.status?.conditions ?? [];
  const evicted = conditions.find(({ type, status }) => type === "Evicted" && status === "True");
  const waiting = conditions.find(({ type, status }) => type === "QuotaReserved" && status === "False");
  if (waiting) {
    const [, resource = "", asked, most] = neverFits.exec(waiting.message ?? "") ?? [];
    if (asked !== undefined && most !== undefined)
      return `asks for ${asked} × ${resource}, and its queue can never have more than ${most}: ask for fewer, or have the quota raised (Kueue: ${waiting.message})`;
    return `waits in its queue: ${waiting.message ?? waiting.reason ?? "no quota yet"}`;
  }
  if (evicted) return `was taken out of its queue's quota: ${evicted.message ?? evicted.reason ?? "evicted"}`;
  return "waits in its queue for Kueue to look at it";
}

/** The scheduler's counts without what it did about preemption: `0/9 nodes are available: 4 Insufficient nvidia.com/gpu`. */
function readable(message: string): string {
  return message.replace(/\s*preemption: .*$/s, "").replace(/\.$/, "");
}
