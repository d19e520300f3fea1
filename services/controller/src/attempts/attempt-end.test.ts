import { expect, test } from "vitest";
import { Phase } from "@drydock/proto";
import type { RankEnd } from "../backend/cluster-backend.ts";
import { gangEnd } from "../backend/gang-end.ts";
import { classifyEnd } from "./attempt-end.ts";
import { newRanks, type RankSession, type ReportedOutcome } from "./attempt-registry.ts";
import { reasonToKill } from "./watch-gang.ts";

const exited = (exitCode: number | null, signal: string | null = null): RankEnd => ({
  rank: 0,
  exitCode,
  signal,
  reason: "exited",
  node: null,
  message: null,
});
const said = (exitCode: number, reason: string): ReportedOutcome => ({
  exitCode,
  reason,
  message: `because of ${reason}`,
  modelKey: exitCode === 0 ? "models/m/1" : "",
});

test.each<[string, RankEnd, ReportedOutcome | null, string | null, object]>([
  [
    "the last report says that it is done",
    exited(0),
    said(0, "completed"),
    null,
    { kind: "succeeded", modelKey: "models/m/1" },
  ],
  [
    "the last report counts when nobody saw the exit code",
    { ...exited(null), reason: "vanished" },
    said(0, "completed"),
    null,
    { kind: "succeeded", exitCode: 0 },
  ],
  ["a stop after a checkpoint", exited(143), said(143, "paused-after-checkpoint"), null, { kind: "stopped" }],
  ["a stop that could not be reported", exited(143), null, null, { kind: "stopped", reason: "preempted" }],
  [
    "a reason that is not on the list",
    exited(1),
    said(1, "gremlins"),
    null,
    { kind: "failed", reason: "internal-error" },
  ],
  ["bad config", exited(64), null, null, { reason: "bad-config" }],
  ["bad data", exited(65), null, null, { reason: "bad-data" }],
  ["diverged", exited(64), said(64, "diverged"), null, { reason: "diverged" }],
  ["an allocator error", exited(71), null, null, { reason: "out-of-memory" }],
  [
    "over the memory limit",
    { ...exited(null, "SIGKILL"), reason: "out-of-memory" },
    null,
    null,
    { reason: "out-of-memory" },
  ],
  ["storage away", exited(75), null, null, { reason: "storage-unavailable" }],
  ["hardware", exited(86), null, null, { reason: "hardware" }],
  [
    "kill -9",
    exited(null, "SIGKILL"),
    null,
    null,
    { reason: "worker-lost", message: "the worker was ended by SIGKILL" },
  ],
  [
    "hung",
    exited(null, "SIGKILL"),
    null,
    "it took no step for 5 s",
    { reason: "hung", message: "the worker was ended because it took no step for 5 s" },
  ],
  ["any other code", exited(1), null, null, { reason: "internal-error" }],
])("%s", (_name, end, reported, hungBecause, expected) => {
  expect(classifyEnd({ cause: end, ranks: [end] }, [reported], hungBecause)).toMatchObject(expected);
});

const ofRank = (rank: number, end: RankEnd): RankEnd => ({ ...end, rank });
const lostPeer = (rank: number, why: string): ReportedOutcome => ({
  ...said(75, "worker-lost"),
  message: `rank ${rank} was lost: ${why}`,
});

test.each<[string, readonly RankEnd[], readonly (ReportedOutcome | null)[], string | null, object]>([
  [
    "all are done",
    [exited(0), exited(0)],
    [said(0, "completed"), said(0, "completed")],
    null,
    { kind: "succeeded", modelKey: "models/m/1" },
  ],
  [
    "one is killed, the other loses it",
    [exited(75), exited(null, "SIGKILL")],
    [lostPeer(1, "its connection was closed"), null],
    null,
    { reason: "worker-lost", message: "rank 1: the worker was ended by SIGKILL" },
  ],
  [
    "one refuses its data, the other loses it",
    [exited(75), exited(65)],
    [lostPeer(1, "row 3 has no answer"), said(65, "bad-data")],
    null,
    { reason: "bad-data", message: "rank 1: because of bad-data" },
  ],
  [
    "storage stays away from one: the same exit code as that of a rank that lost its peer",
    [exited(75), exited(75)],
    [lostPeer(1, "storage does not answer"), said(75, "storage-unavailable")],
    null,
    { reason: "storage-unavailable", message: "rank 1: because of storage-unavailable" },
  ],
  [
    "one stands still, and the other notices",
    [exited(75), exited(null, "SIGKILL")],
    [lostPeer(1, "it said nothing for 30 s"), null],
    null,
    { reason: "hung", message: "rank 1 was lost: it said nothing for 30 s" },
  ],
  [
    "the network between them is cut",
    [exited(75), exited(75)],
    [lostPeer(1, "its connection was cut"), lostPeer(0, "its connection was cut")],
    null,
    { reason: "worker-lost", message: "rank 1 was lost: its connection was cut" },
  ],
  [
    "the controller ended them because one took no step",
    [exited(null, "SIGKILL"), exited(null, "SIGKILL")],
    [null, null],
    "rank 1 took no step for 5 s while 1 rank waited for it",
    { reason: "hung", message: "the ranks were ended because rank 1 took no step for 5 s while 1 rank waited for it" },
  ],
  [
    "both stopped after a checkpoint",
    [exited(143), exited(143)],
    [said(143, "paused-after-checkpoint"), said(143, "paused-after-checkpoint")],
    null,
    { kind: "stopped", message: "because of paused-after-checkpoint" },
  ],
])("of two ranks %s", (_name, ends, outcomes, hungBecause, expected) => {
  expect(classifyEnd(gangEnd(ends.map((end, rank) => ofRank(rank, end))), outcomes, hungBecause)).toMatchObject(
    expected,
  );
});

const patience = { reportMs: 10_000, stepMs: 5_000, stopMs: 2_000 };

/** A rank that is well at 20 s. */
function rankWith(change: Partial<RankSession> = {}): RankSession {
  const [rank] = newRanks(1, 20_000);
  return { ...(rank as RankSession), phase: Phase.TRAINING, ...change };
}

test.each<[string, Partial<RankSession>, number | null, string | null]>([
  ["all is well", {}, null, null],
  [
    "no report",
    { phase: Phase.EVALUATING_AFTER, lastReportAtMs: 9_000, lastProgressAtMs: 9_000 },
    null,
    "it said nothing for 10 s",
  ],
  ["reports without a step while training", { lastProgressAtMs: 14_000 }, null, "it took no step for 5 s"],
  ["reports without a step while evaluating", { phase: Phase.EVALUATING_AFTER, lastProgressAtMs: 14_000 }, null, null],
  [
    "a report that waits for the api to store it",
    { phase: Phase.EVALUATING_AFTER, lastReportAtMs: 0, reportsInFlight: 1 },
    null,
    null,
  ],
  ["asked to stop a moment ago", {}, 19_000, null],
  ["asked to stop long ago", {}, 17_000, "it did not stop within 2 s of being asked"],
])("a worker is ended, or not: %s", (_name, change, stopAskedAtMs, expected) => {
  expect(reasonToKill([rankWith(change)], patience, stopAskedAtMs, 20_000)).toBe(expected);
});

const stuck = { lastProgressAtMs: 14_000 };

test.each<[string, readonly Partial<RankSession>[], string | null]>([
  [
    "one that takes no step while the others wait is named",
    [{ ...stuck, waitsForRanks: true }, { ...stuck, waitsForRanks: true }, stuck],
    "rank 2 took no step for 5 s while 2 ranks waited for it",
  ],
  [
    "one that stood still after it had said that it waits is named",
    [
      { ...stuck, waitsForRanks: true },
      { ...stuck, waitsForRanks: true, lastReportAtMs: 14_500 },
    ],
    "rank 1 took no step for 5 s while 1 rank waited for it",
  ],
  ["one that waits for a rank which is not late yet is left alone", [{ ...stuck, waitsForRanks: true }, {}], null],
  [
    "when all wait, the network is to blame",
    [
      { ...stuck, waitsForRanks: true },
      { ...stuck, waitsForRanks: true },
    ],
    "all ranks waited for each other for 5 s: the network between them may be cut",
  ],
  ["one that says nothing is named", [{}, { lastReportAtMs: 0 }], "rank 1 said nothing for 10 s"],
  ["one that has ended is not missed", [{}, { lastReportAtMs: 0, outcome: said(75, "worker-lost") }], null],
])("of several ranks %s", (_name, changes, expected) => {
  const ranks = changes.map((change, rank) => rankWith({ rank, ...change }));
  expect(reasonToKill(ranks, patience, null, 20_000)).toBe(expected);
});
