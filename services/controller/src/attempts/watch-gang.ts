import { setTimeout as delay } from "node:timers/promises";
import { Directive, Phase } from "@drydock/proto";
import type { Gang, GangEnd } from "../backend/cluster-backend.ts";
import type { AttemptSession } from "./attempt-registry.ts";

/** How long an attempt may go without a sign, in milliseconds. */
export interface Patience {
  /** Without any report. */
  readonly reportMs: number;
  /** Without a step, a checkpoint or an evaluation while it trains. */
  readonly stepMs: number;
  /** For its last checkpoint, once it was told to stop. */
  readonly stopMs: number;
}

/** What ends the watch before the gang does. */
export interface WatchSignals {
  /** The user wants the attempt to stop after a checkpoint. */
  readonly stop: AbortSignal;
  /** Someone else watches from now on (or nobody): the gang is left as it is. */
  readonly abandon: AbortSignal;
}

const lookIntervalMs = 500;

/**
 * Watches a gang to its end: hands on a wish to stop, and ends one that is silent or stuck for too long.
 *
 * @throws the reason of `signals.abandon`
 */
export async function watchGang(
  gang: Gang,
  session: AttemptSession,
  patience: Patience,
  signals: WatchSignals,
): Promise<{ end: GangEnd; hungBecause: string | null }> {
  let end: GangEnd | null = null;
  let hungBecause: string | null = null;
  let stopAskedAtMs: number | null = null;
  const ended = gang.ended.then((result) => (end = result));
  for (;;) {
    await Promise.race([ended, delay(lookIntervalMs)]);
    if (end) return { end, hungBecause };
    signals.abandon.throwIfAborted();
    const nowMs = Date.now();
    if (signals.stop.aborted && stopAskedAtMs === null) {
      stopAskedAtMs = nowMs;
      session.directive = Directive.CHECKPOINT_AND_STOP;
      gang.stop();
    }
    const reason = reasonToKill(session, patience, stopAskedAtMs, nowMs);
    if (reason === null) continue;
    hungBecause = reason;
    gang.kill();
    await ended;
  }
}

/** Null while all is well. Pure. */
export function reasonToKill(
  session: Pick<AttemptSession, "lastReportAtMs" | "lastProgressAtMs" | "phase" | "reportsInFlight">,
  patience: Patience,
  stopAskedAtMs: number | null,
  nowMs: number,
): string | null {
  if (stopAskedAtMs !== null && nowMs - stopAskedAtMs > patience.stopMs)
    return `it did not stop within ${seconds(patience.stopMs)} of being asked`;
  if (session.reportsInFlight === 0 && nowMs - session.lastReportAtMs > patience.reportMs)
    return `it said nothing for ${seconds(patience.reportMs)}`;
  if (session.phase === Phase.TRAINING && nowMs - session.lastProgressAtMs > patience.stepMs)
    return `it took no step for ${seconds(patience.stepMs)}`;
  return null;
}

function seconds(milliseconds: number): string {
  return `${Math.round(milliseconds / 100) / 10} s`;
}
