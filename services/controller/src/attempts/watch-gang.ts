import { setTimeout as delay } from "node:timers/promises";
import { Directive, Phase } from "@drydock/proto";
import type { Gang, GangEnd } from "../backend/cluster-backend.ts";
import type { AttemptSession, RankSession } from "./attempt-registry.ts";

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
/** A look that comes so much too late means that we stood still, or that the clock jumped. */
const stallMs = 2000;

/** Ranks report twice a second; what they said so long ago is out of date. */
const trustMs = 5_000;

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
  let lookedAtMs = Date.now();
  const ended = gang.ended.then((result) => (end = result));
  for (;;) {
    await Promise.race([ended, delay(lookIntervalMs)]);
    if (end) return { end, hungBecause };
    signals.abandon.throwIfAborted();
    const nowMs = Date.now();
    const missedMs = nowMs - lookedAtMs - lookIntervalMs;
    lookedAtMs = nowMs;
    if (missedMs > stallMs) {
      forgiveSilence(session.ranks, missedMs);
      stopAskedAtMs = stopAskedAtMs === null ? null : stopAskedAtMs + missedMs;
    }
    if (signals.stop.aborted && stopAskedAtMs === null) {
      stopAskedAtMs = nowMs;
      session.directive = Directive.CHECKPOINT_AND_STOP;
      gang.stop();
    }
    // A rank that a cluster has not started yet is not silent: the back end tells why it waits, and when it cannot start.
    const ranks = session.ranks.filter(({ hasSpoken }) => hasSpoken || gang.onWaiting === undefined);
    const reason = reasonToKill(ranks, patience, stopAskedAtMs, nowMs, session.ranks.length > 1);
    if (reason === null) continue;
    hungBecause = reason;
    gang.kill();
    await ended;
  }
}

/** We could not hear the ranks while we stood still: that time is not theirs. */
export function forgiveSilence(ranks: readonly RankSession[], missedMs: number): void {
  for (const rank of ranks) {
    rank.lastReportAtMs += missedMs;
    rank.lastProgressAtMs += missedMs;
  }
}

/**
 * Null while all is well, else what is wrong, with the rank's number when there are several. A rank that waits for the
 * others is not stuck: the one it waits for is. Pure.
 */
export function reasonToKill(
  ranks: readonly RankSession[],
  patience: Patience,
  stopAskedAtMs: number | null,
  nowMs: number,
  isOneOfSeveral = ranks.length > 1,
): string | null {
  const name = ({ rank }: RankSession): string => (isOneOfSeveral ? `rank ${rank}` : "it");
  const working = ranks.filter(({ outcome }) => outcome === null);
  if (stopAskedAtMs !== null && nowMs - stopAskedAtMs > patience.stopMs)
    return `${isOneOfSeveral ? "they" : "it"} did not stop within ${seconds(patience.stopMs)} of being asked`;
  const silent = working.find((rank) => rank.reportsInFlight === 0 && nowMs - rank.lastReportAtMs > patience.reportMs);
  if (silent) return `${name(silent)} said nothing for ${seconds(patience.reportMs)}`;
  const stuck = working.filter(
    (rank) => rank.phase === Phase.TRAINING && nowMs - rank.lastProgressAtMs > patience.stepMs,
  );
  // What a rank said long ago, it may no longer do: one that stands still had perhaps just begun to wait.
  const waits = (rank: (typeof ranks)[number]): boolean =>
    rank.waitsForRanks && (rank.reportsInFlight > 0 || nowMs - rank.lastReportAtMs < trustMs);
  const culprit = stuck.find((rank) => !waits(rank));
  const waiting = ranks.filter(waits).length;
  if (culprit) {
    const meanwhile = waiting > 0 ? ` while ${waiting} ${waiting === 1 ? "rank" : "ranks"} waited for it` : "";
    return `${name(culprit)} took no step for ${seconds(patience.stepMs)}${meanwhile}`;
  }
  if (stuck.length > 0 && stuck.length === ranks.length)
    return `all ranks waited for each other for ${seconds(patience.stepMs)}: the network between them may be cut`;
  return null;
}

function seconds(milliseconds: number): string {
  return `${Math.round(milliseconds / 100) / 10} s`;
}
