import { expect, test } from "vitest";
import { Phase } from "@drydock/proto";
import type { RankEnd } from "../backend/cluster-backend.ts";
import { classifyEnd } from "./attempt-end.ts";
import type { ReportedOutcome } from "./attempt-registry.ts";
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
  expect(classifyEnd({ cause: end, ranks: [end] }, reported, hungBecause)).toMatchObject(expected);
});

const patience = { reportMs: 10_000, stepMs: 5_000, stopMs: 2_000 };

test.each<[string, Phase, number, number, number | null, string | null]>([
  ["all is well", Phase.TRAINING, 20_000, 20_000, null, null],
  ["no report", Phase.EVALUATING_AFTER, 9_000, 9_000, null, "it said nothing for 10 s"],
  ["reports without a step while training", Phase.TRAINING, 19_900, 14_000, null, "it took no step for 5 s"],
  ["reports without a step while evaluating", Phase.EVALUATING_AFTER, 19_900, 14_000, null, null],
  ["asked to stop a moment ago", Phase.TRAINING, 20_000, 20_000, 19_000, null],
  ["asked to stop long ago", Phase.TRAINING, 20_000, 20_000, 17_000, "it did not stop within 2 s of being asked"],
])("a worker is ended, or not: %s", (_name, phase, lastReportAtMs, lastProgressAtMs, stopAskedAtMs, expected) => {
  expect(
    reasonToKill({ phase, lastReportAtMs, lastProgressAtMs, reportsInFlight: 0 }, patience, stopAskedAtMs, 20_000),
  ).toBe(expected);
});

test("a worker that waits for the api to store its report is not silent", () => {
  const waiting = { phase: Phase.EVALUATING_AFTER, lastReportAtMs: 0, lastProgressAtMs: 0, reportsInFlight: 1 };
  expect(reasonToKill(waiting, patience, null, 20_000)).toBeNull();
});
