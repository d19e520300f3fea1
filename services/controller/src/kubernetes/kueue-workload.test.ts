import { expect, test } from "vitest";
import type { Condition } from "./kube-objects.ts";
import { isPending, whyEvicted, whyKueueHolds, type WorkloadObject } from "./kueue-workload.ts";

function workload(conditions: Partial<Condition>[], change: Partial<WorkloadObject> = {}): WorkloadObject {
  const whole = conditions.map((condition) => ({ type: "", status: "True", ...condition }));
  return { metadata: { name: "job-x" }, ...change, status: { conditions: whole, ...change.status } };
}

const evicted = (reason: string, message = "") => ({ type: "Evicted", reason, message });

test.each<[string, WorkloadObject | null]>([
  ["waits in its queue for Kueue to look at it", null],
  [
    "waits in its queue: couldn't assign flavors",
    workload([{ type: "QuotaReserved", status: "False", message: "couldn't assign flavors" }]),
  ],
  [
    "asks for 72 × nvidia.com/gpu, and its queue can never have more than 32: ask for fewer, or have the quota raised (Kueue: insufficient quota for nvidia.com/gpu in flavor h100, previously considered podsets requests (0) + current podset request (72) > maximum capacity (32))",
    workload([
      {
        type: "QuotaReserved",
        status: "False",
        message:
          "insufficient quota for nvidia.com/gpu in flavor h100, previously considered podsets requests (0) + current podset request (72) > maximum capacity (32)",
      },
    ]),
  ],
  [
    "was taken out of its queue's quota, because not all of its pods were ready in time; Kueue tries it again at 2026-11-23T14:05:00Z, after 2 tries",
    workload([evicted("PodsReadyTimeout")], {
      status: { requeueState: { count: 2, requeueAt: "2026-11-23T14:05:00Z" } },
    }),
  ],
  [
    "Kueue has deactivated its Workload job-x, because its Workload was deactivated: set .spec.active to true to let it wait again, or cancel the run",
    workload([evicted("Deactivated")], { spec: { active: false } }),
  ],
  ["was taken out of its queue's quota: by hand", workload([evicted("Preempted", "by hand")])],
])("%s", (sentence, given) => {
  expect(whyKueueHolds(given)).toBe(sentence);
});

const preempted = (reason: string) => [
  evicted("Preempted"),
  {
    type: "Preempted",
    reason,
    message:
      "Preempted to accommodate a workload (UID: w1, JobUID: j1) due to prioritization in the ClusterQueue; preemptor path: /a; preemptee path: /a",
  },
];

test.each<[string, WorkloadObject | null]>([
  ["its GPUs went to run run_2 (priority high): it goes first in their queue", workload(preempted("InClusterQueue"))],
  [
    "its GPUs went to run run_2 (priority high): its queue took back what it had lent",
    workload(preempted("InCohortReclamation")),
  ],
  ["Kueue took its GPUs back: its LocalQueue was stopped", workload([evicted("LocalQueueStopped")])],
  ["the queue took its GPUs back", null],
])("a gang that lost its GPUs says: %s", (sentence, given) => {
  expect(whyEvicted(given, (uid) => (uid === "j1" ? "run run_2 (priority high)" : null))).toBe(sentence);
});

test("work of others is named by its Job", () => {
  expect(whyEvicted(workload(preempted("InClusterQueue")), () => null)).toBe(
    "its GPUs went to work that is not Drydock's (Job j1): it goes first in their queue",
  );
});

test("a workload with quota, or that is over, does not wait", () => {
  expect(isPending(workload([{ type: "QuotaReserved", status: "False" }]))).toBe(true);
  expect(isPending(workload([{ type: "QuotaReserved" }]))).toBe(false);
  expect(isPending(workload([{ type: "Finished" }]))).toBe(false);
});
