import type { JobObject, PodObject } from "./kube-objects.ts";
import { whyKueueHolds, type WorkloadObject } from "./kueue-workload.ts";
import { hopelessBecause } from "./rank-end.ts";

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
  if (job.spec?.suspend === true) return { sentence: whyKueueHolds(workload), isHopeless: false };
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

/** The scheduler's counts without what it did about preemption: `0/9 nodes are available: 4 Insufficient nvidia.com/gpu`. */
function readable(message: string): string {
  return message.replace(/\s*preemption: .*$/s, "").replace(/\.$/, "");
}
