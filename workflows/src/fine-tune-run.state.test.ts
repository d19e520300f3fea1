import { expect, test } from "vitest";
import type { AttemptOutcome } from "./activities.ts";
import { decide, initialProgress, maxLosses, type Progress, type Request } from "./fine-tune-run.state.ts";

const planned = {
  microBatchSize: 8,
  accumulationSteps: 1,
  recomputeActivations: false,
  dataParallel: 2,
  pipelineStages: 1,
};
const halved = { ...planned, microBatchSize: 4, accumulationSteps: 2 };
const recomputed = { ...halved, recomputeActivations: true };
const staged = { ...recomputed, dataParallel: 1, pipelineStages: 2, accumulationSteps: 4 };
const facts = { retries: 2, deadlineSeconds: 60, layouts: [planned, halved, recomputed, staged] };
const fresh = initialProgress;
const failed = (reason: AttemptOutcome["reason"]): AttemptOutcome => ({
  kind: "failed",
  epoch: 1,
  reason,
  message: `because of ${reason}`,
  lastStep: 7,
  modelKey: "",
});
const stopped: AttemptOutcome = { ...failed("paused-after-checkpoint"), kind: "stopped" };

test.each<[string, AttemptOutcome, Request, Progress, object]>([
  [
    "a finished attempt is published, even when a pause came too late",
    { ...stopped, kind: "succeeded" },
    "pause",
    fresh,
    { kind: "publish" },
  ],
  ["a stop that was asked for as a pause pauses", stopped, "pause", fresh, { kind: "pause" }],
  [
    "an attempt that ended well before the cancel reached it is cancelled all the same",
    { ...stopped, kind: "succeeded" },
    "cancel",
    fresh,
    { kind: "cancel" },
  ],
  ["a stop that was asked for as a cancel cancels", stopped, "cancel", fresh, { kind: "cancel" }],
  [
    "a stop that was asked for as a resize goes on at once, without a budget",
    stopped,
    "resize",
    { ...fresh, losses: maxLosses, lossStep: 7 },
    { kind: "retry", delayMs: 0, reason: "resize-requested", progress: { failures: 0, losses: maxLosses } },
  ],
  [
    "out of memory while a resize was asked for: the new layout is tried",
    failed("out-of-memory"),
    "resize",
    { ...fresh, layout: 3 },
    { kind: "retry", reason: "resize-requested" },
  ],
  [
    "a worker lost while a resize was asked for is a lost worker",
    failed("worker-lost"),
    "resize",
    fresh,
    { kind: "retry", reason: "worker-lost" },
  ],
  [
    "a stop that nobody asked for goes on without the retry budget",
    stopped,
    "none",
    fresh,
    { kind: "retry", progress: { failures: 0, losses: 1 } },
  ],
  [
    "out of memory halves the micro-batch",
    failed("out-of-memory"),
    "none",
    fresh,
    {
      kind: "retry",
      progress: { layout: 1, failures: 0 },
      remedy: "memory ran out: micro-batch 8 → 4, accumulation 1 → 2, global batch kept",
    },
  ],
  [
    "out of memory again: activations are computed again",
    failed("out-of-memory"),
    "none",
    { ...fresh, layout: 1 },
    {
      kind: "retry",
      progress: { layout: 2 },
      remedy: "memory ran out: activations are computed again for the backward pass instead of kept, global batch kept",
    },
  ],
  [
    "out of memory once more: more pipeline stages",
    failed("out-of-memory"),
    "none",
    { ...fresh, layout: 2 },
    {
      kind: "retry",
      progress: { layout: 3 },
      remedy: "memory ran out: accumulation 2 → 4, pipeline stages 1 → 2 on the same GPUs, global batch kept",
    },
  ],
  [
    "out of memory with the plan's last layout fails and says what to do",
    failed("out-of-memory"),
    "none",
    { ...fresh, layout: 3 },
    {
      kind: "fail",
      reason: "out-of-memory",
      message:
        "memory ran out 4 times, last with 4 rows a micro-batch, activations computed again, 2 pipeline stages; lower image.maxPixels, use a smaller model, or give the worker more memory (because of out-of-memory)",
    },
  ],
  [
    "a lost worker goes on without the retry budget",
    failed("worker-lost"),
    "none",
    { ...fresh, failures: 2 },
    { kind: "retry", progress: { failures: 2, losses: 1 } },
  ],
  [
    "a worker lost for ever at one step fails",
    failed("worker-lost"),
    "none",
    { ...fresh, losses: maxLosses, lossStep: 7 },
    { kind: "fail", reason: "retries-exhausted" },
  ],
  [
    "a worker lost often, but further on each time, goes on",
    failed("worker-lost"),
    "none",
    { ...fresh, losses: maxLosses, lossStep: 6 },
    { kind: "retry", progress: { losses: 1, lossStep: 7 } },
  ],
  [
    "storage that is away is waited for",
    failed("storage-unavailable"),
    "none",
    fresh,
    { kind: "retry", delayMs: 5_000 },
  ],
  ["bad data stops at once", failed("bad-data"), "none", fresh, { kind: "fail", reason: "bad-data" }],
  ["a bad config stops at once", failed("bad-config"), "none", fresh, { kind: "fail", reason: "bad-config" }],
  ["a diverged run stops at once", failed("diverged"), "none", fresh, { kind: "fail", reason: "diverged" }],
  ["a hung worker uses the retry budget", failed("hung"), "none", fresh, { kind: "retry", progress: { failures: 1 } }],
  [
    "an unexpected error past the budget fails",
    failed("internal-error"),
    "none",
    { ...fresh, failures: 2 },
    { kind: "fail", reason: "retries-exhausted" },
  ],
  ["a deadline fails with its own reason", stopped, "deadline", fresh, { kind: "fail", reason: "deadline-exceeded" }],
])("%s", (_name, outcome, request, progress, expected) => {
  expect(decide(outcome, request, progress, facts)).toMatchObject(expected);
});
