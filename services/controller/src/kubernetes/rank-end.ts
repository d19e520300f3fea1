import type { EndReason, RankEnd } from "../backend/cluster-backend.ts";
import { conditionOf, type ContainerStatus, type PodObject } from "./kube-objects.ts";
import { labels } from "./names.ts";

const workerContainer = "worker";

/** Reasons to wait that no time mends: somebody must change something. */
const imageReasons = new Set(["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"]);
const podReasons = new Set(["CreateContainerConfigError", "CreateContainerError", "RunContainerError"]);

const byDisruption: Readonly<Record<string, EndReason>> = {
  PreemptionByScheduler: "preempted",
  EvictionByEvictionAPI: "drained",
  DeletionByTaintManager: "node-lost",
  DeletionByPodGC: "node-lost",
  TerminationByKubelet: "drained",
};

const byPodReason: Readonly<Record<string, EndReason>> = {
  UnexpectedAdmissionError: "refused-by-node",
  NodeAffinity: "refused-by-node",
  TopologyAffinityError: "refused-by-node",
  NodePorts: "refused-by-node",
  NodeLost: "node-lost",
  NodeShutdown: "drained",
  Terminated: "drained",
  Shutdown: "drained",
  Preempting: "preempted",
  DeadlineExceeded: "deadline",
};

/** Signals that a container's exit code stands for. */
const signals: Readonly<Record<number, string>> = { 137: "SIGKILL", 139: "SIGSEGV", 134: "SIGABRT" };

/** How a rank's pod ended, as far as the pod tells; null while it has not ended. Pure. */
export function rankEndOf(pod: PodObject): RankEnd | null {
  const status = pod.status ?? {};
  if (status.phase !== "Succeeded" && status.phase !== "Failed") return null;
  const terminated = workerOf(pod)?.state?.terminated;
  const code = terminated?.exitCode ?? null;
  const signal = code === null ? null : (signals[code] ?? null);
  const end = {
    rank: rankOf(pod),
    // A kill is no word of the worker's own.
    exitCode: signal === null ? code : null,
    signal,
    node: pod.spec?.nodeName ?? null,
  };
  return { ...end, ...whyOf(pod, terminated?.reason) };
}

function whyOf(pod: PodObject, containerReason: string | undefined): Pick<RankEnd, "reason" | "message"> {
  const { status = {} } = pod;
  const message = status.message ?? null;
  if (containerReason === "OOMKilled") return { reason: "out-of-memory", message };
  if (status.reason === "Evicted")
    return { reason: /ephemeral|emptyDir/i.test(status.message ?? "") ? "disk-full" : "drained", message };
  const disruption = conditionOf(pod, "DisruptionTarget");
  if (disruption)
    return { reason: byDisruption[disruption.reason ?? ""] ?? "drained", message: disruption.message ?? message };
  if (status.reason?.startsWith("OutOf")) return { reason: "refused-by-node", message };
  const byReason = byPodReason[status.reason ?? ""];
  if (byReason) return { reason: byReason, message };
  if (containerReason === "StartError" || containerReason === "ContainerCannotRun")
    return { reason: "bad-pod", message: workerOf(pod)?.state?.terminated?.message ?? message };
  return { reason: "exited", message };
}

/** Why a pod that has not ended will never start; null when it may. */
export function hopelessBecause(pod: PodObject): { reason: EndReason; message: string } | null {
  const waiting = (pod.status?.initContainerStatuses ?? [])
    .concat(pod.status?.containerStatuses ?? [])
    .map(({ state }) => state?.waiting)
    .find((state) => imageReasons.has(state?.reason ?? "") || podReasons.has(state?.reason ?? ""));
  if (!waiting?.reason) return null;
  const message = `${waiting.reason}${waiting.message === undefined ? "" : `: ${waiting.message}`}`;
  return { reason: imageReasons.has(waiting.reason) ? "image-unavailable" : "bad-pod", message };
}

export function rankOf(pod: PodObject): number {
  return Number(pod.metadata.labels?.[labels.rank] ?? pod.metadata.annotations?.[labels.rank] ?? 0);
}

function workerOf(pod: PodObject): ContainerStatus | undefined {
  return pod.status?.containerStatuses?.find(({ name }) => name === workerContainer);
}
