import { setTimeout as delay } from "node:timers/promises";
import { Directive } from "@drydock/proto";
import type { AttemptSession } from "../attempts/attempt-registry.ts";
import type { Pod, PodEnd } from "../backend/cluster-backend.ts";

export interface WatchOptions {
  readonly pod: Pod;
  readonly session: AttemptSession;
  readonly reportDeadlineMs: number;
  /** Aborted when the user wants the attempt to stop. */
  readonly stopSignal: AbortSignal;
}

/** A worker that was told to stop gets so long for its checkpoint. */
const stopGraceMs = 120_000;

/** Watches a pod to its end: hands on a wish to stop, and ends a pod that says nothing for too long. */
export async function watchPod({ pod, session, reportDeadlineMs, stopSignal }: WatchOptions): Promise<{ end: PodEnd; wasHung: boolean }> {
  let end: PodEnd | null = null;
  let wasHung = false;
  let stopAskedAtMs: number | null = null;
  const ended = pod.ended.then((result) => (end = result));
  while (!end) {
    await Promise.race([ended, delay(1000), stopSignal.aborted ? delay(1000) : once(stopSignal)]);
    if (stopSignal.aborted && stopAskedAtMs === null) {
      stopAskedAtMs = Date.now();
      session.directive = Directive.CHECKPOINT_AND_STOP;
      pod.stop();
    }
    const isSilent = Date.now() - session.lastReportAtMs > reportDeadlineMs;
    const isStuckStopping = stopAskedAtMs !== null && Date.now() - stopAskedAtMs > stopGraceMs;
    if (!end && (isSilent || isStuckStopping)) {
      wasHung = isSilent;
      pod.kill();
      await ended;
    }
  }
  return { end: await ended, wasHung };
}

async function once(signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
