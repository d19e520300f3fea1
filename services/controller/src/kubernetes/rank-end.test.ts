import { expect, test } from "vitest";
import type { ContainerStatus, PodObject } from "./kube-objects.ts";
import { hopelessBecause, rankEndOf } from "./rank-end.ts";

type Status = NonNullable<PodObject["status"]>;

function pod(status: Status, rank = "3"): PodObject {
  return {
    metadata: { name: "dd-run-1-a1-3-x", labels: { "batch.kubernetes.io/job-completion-index": rank } },
    spec: { nodeName: "node-7" },
    status,
  };
}

function worker(state: ContainerStatus["state"]): { containerStatuses: ContainerStatus[] } {
  return { containerStatuses: [{ name: "worker", ...(state === undefined ? {} : { state }) }] };
}

function ended(exitCode: number, reason = "Error"): { containerStatuses: ContainerStatus[] } {
  return worker({ terminated: { exitCode, reason } });
}

function disrupted(reason: string): Pick<Status, "conditions"> {
  return { conditions: [{ type: "DisruptionTarget", status: "True", reason, message: `because of ${reason}` }] };
}

test.each<[string, Status, object]>([
  ["is done", { phase: "Succeeded", ...ended(0, "Completed") }, { exitCode: 0, reason: "exited" }],
  ["refuses its data", { phase: "Failed", ...ended(65) }, { exitCode: 65, reason: "exited" }],
  ["stopped after a checkpoint", { phase: "Failed", ...ended(143) }, { exitCode: 143, signal: null, reason: "exited" }],
  ["was killed", { phase: "Failed", ...ended(137) }, { exitCode: null, signal: "SIGKILL", reason: "exited" }],
  ["crashed", { phase: "Failed", ...ended(139) }, { exitCode: null, signal: "SIGSEGV", reason: "exited" }],
  ["ran out of memory", { phase: "Failed", ...ended(137, "OOMKilled") }, { reason: "out-of-memory" }],
  [
    "was evicted because its node ran short",
    { phase: "Failed", reason: "Evicted", message: "The node was low on resource: memory.", ...ended(137) },
    { reason: "drained" },
  ],
  [
    "was evicted for its own disk",
    { phase: "Failed", reason: "Evicted", message: 'Usage of EmptyDir volume "scratch" exceeds the limit "1Gi".' },
    { reason: "disk-full", exitCode: null },
  ],
  ["was preempted", { phase: "Failed", ...disrupted("PreemptionByScheduler"), ...ended(137) }, { reason: "preempted" }],
  [
    "was drained",
    { phase: "Failed", ...disrupted("EvictionByEvictionAPI"), ...ended(143) },
    { reason: "drained", exitCode: 143 },
  ],
  [
    "went with its node",
    { phase: "Failed", ...disrupted("DeletionByTaintManager") },
    { reason: "node-lost", node: "node-7" },
  ],
  [
    "was collected",
    { phase: "Failed", ...disrupted("DeletionByPodGC") },
    { reason: "node-lost", message: "because of DeletionByPodGC" },
  ],
  [
    "was shut down",
    { phase: "Failed", reason: "Terminated", ...disrupted("TerminationByKubelet") },
    { reason: "drained" },
  ],
  [
    "was refused by the kubelet",
    { phase: "Failed", reason: "UnexpectedAdmissionError" },
    { reason: "refused-by-node" },
  ],
  ["found no processor left", { phase: "Failed", reason: "OutOfcpu" }, { reason: "refused-by-node" }],
  ["no longer fits its node", { phase: "Failed", reason: "NodeAffinity" }, { reason: "refused-by-node" }],
  ["missed its topology", { phase: "Failed", reason: "TopologyAffinityError" }, { reason: "refused-by-node" }],
  ["ran too long", { phase: "Failed", reason: "DeadlineExceeded" }, { reason: "deadline" }],
  ["could not be executed", { phase: "Failed", ...ended(128, "StartError") }, { reason: "bad-pod" }],
])("a pod that %s", (_, status, expected) => {
  expect(rankEndOf(pod(status))).toMatchObject({ rank: 3, ...expected });
});

test.each<[string, Status]>([
  ["runs", { phase: "Running", ...worker({ running: {} }) }],
  ["waits", { phase: "Pending" }],
])("a pod that %s has not ended", (_, status) => {
  expect(rankEndOf(pod(status))).toBeNull();
});

test.each<[string, string | null]>([
  ["ImagePullBackOff", "image-unavailable"],
  ["InvalidImageName", "image-unavailable"],
  ["ErrImageNeverPull", "image-unavailable"],
  // The first failure to pull may pass; the kubelet says BackOff when it does not.
  ["ErrImagePull", null],
  ["CreateContainerConfigError", "bad-pod"],
  ["CreateContainerError", "bad-pod"],
  ["RunContainerError", "bad-pod"],
  ["ContainerCreating", null],
])("a container that waits for %s", (reason, expected) => {
  const hopeless = hopelessBecause(pod({ phase: "Pending", ...worker({ waiting: { reason, message: "told" } }) }));
  expect(hopeless).toEqual(expected === null ? null : { reason: expected, message: `${reason}: told` });
});
