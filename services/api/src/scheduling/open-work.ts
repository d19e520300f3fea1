import {
  evaluationLeft,
  timeLeft,
  type ClusterReport,
  type OpenWork,
  type Pace,
  type Plan,
  type RunSpec,
} from "@drydock/spec";
import type { OpenRunRow } from "../store/cluster-store.ts";

type Facts = Pick<ClusterReport, "nodes"> | null;

/** True for a run that waits for room, rather than for its worker to start. */
export function isWaiting({ state, reason }: Pick<OpenRunRow, "state" | "reason">): boolean {
  if (state === "queued") return true;
  return state === "scheduling" && (reason === "waiting-for-capacity" || reason === "waiting-in-queue");
}

/** A row as the forecast needs it; null for a plan without a layout, which never runs. */
export function workOf(row: OpenRunRow, pace: Pace | null, cluster: Facts, now: Date): OpenWork | null {
  const { accelerator, pods, gpusPerPod, progress, planned, startedAt } = row;
  if (accelerator === null || pods === null || gpusPerPod === null) return null;
  const left =
    row.state === "evaluating"
      ? evaluationLeft((now.getTime() - (startedAt ?? now).getTime()) / 1000)
      : timeLeft({
          stepsLeft: Math.max(0, progress.totalSteps - progress.step),
          totalSteps: progress.totalSteps,
          pace,
          planned,
        });
  const { id: runId, name, queue, priority } = row;
  return { runId, name, queue, priority, left, ...demandOn(cluster, accelerator, pods, gpusPerPod) };
}

/** A run that is only planned; null when its plan has no layout. Its id sorts after all that are there. */
export function workOfPlan(plan: Plan, spec: RunSpec, cluster: Facts): OpenWork | null {
  const { accelerator, layout, timeSeconds, steps } = plan;
  if (accelerator === null || layout === null) return null;
  return {
    runId: "the planned run",
    name: spec.name,
    queue: spec.queue,
    priority: spec.priority,
    left: timeLeft({ stepsLeft: steps.total, totalSteps: steps.total, pace: null, planned: timeSeconds }),
    ...demandOn(cluster, accelerator.name, layout.pods, layout.gpusPerPod),
  };
}

/** On a computer without GPUs a rank takes a worker slot; a run with more ranks than slots takes all of them. */
function demandOn(cluster: Facts, accelerator: string, pods: number, gpusPerPod: number) {
  if (accelerator !== "cpu") return { accelerator, pods, gpusPerPod };
  const slots = cluster?.nodes.find((node) => node.accelerator === "cpu")?.gpus.total ?? Infinity;
  return { accelerator, pods: Math.min(pods * gpusPerPod, slots), gpusPerPod: 1 };
}
