import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { Phase, ReportRequestSchema } from "@drydock/proto";
import { RunSpec, type InternalRun, type Plan } from "@drydock/spec";
import { meaningOf } from "./run-report.ts";

const run: InternalRun = {
  id: "run_1",
  state: "running",
  attempts: [],
  datasetId: "ds_1",
  datasetVersion: 1,
  spec: RunSpec.parse({
    name: "weld",
    model: "base",
    dataset: "weld@1",
    task: "vqa",
  }),
  plan: { steps: { total: 100 } } as Plan,
};
const now = new Date("2026-11-23T00:00:00Z");
const step = {
  step: 7,
  loss: 1.5,
  learningRate: 1e-4,
  gradientNorm: 0.5,
  tokens: 100n,
  seconds: 0.5,
  memoryBytes: 9n,
  epoch: 0.2,
  timeMs: 0n,
};

function meaning(report: MessageInitShape<typeof ReportRequestSchema>) {
  return meaningOf(run, create(ReportRequestSchema, { epoch: 2, sequence: 3n, ...report }), now);
}

test("a report without news stores nothing", () => {
  expect(meaning({ phase: Phase.EVALUATING_DURING })).toEqual({ batch: null, transition: null, evaluations: [] });
});

test("steps become metrics and progress with tokens per second and the time that is left", () => {
  const { batch, transition } = meaning({ phase: Phase.TRAINING, steps: [{ ...step, step: 6, seconds: 1.5 }, step] });
  expect(batch?.progress).toEqual({
    step: 7,
    totalSteps: 100,
    epoch: 0.2,
    loss: 1.5,
    tokensPerSecond: 200,
    remainingSeconds: 93,
  });
  expect(batch?.metrics?.map((metric) => [metric.step, metric.attempt, metric.tokens])).toEqual([
    [6, 2, 100],
    [7, 2, 100],
  ]);
  expect(transition).toMatchObject({ key: "2-training", to: "running", step: 7 });
});

test("a step that an attempt before could not tell is that attempt's", () => {
  const { batch } = meaning({
    steps: [
      { ...step, attempt: 1 },
      { ...step, step: 8 },
    ],
  });
  expect(batch?.metrics?.map((metric) => [metric.step, metric.attempt])).toEqual([
    [7, 1],
    [8, 2],
  ]);
  expect(batch?.progress?.step).toBe(8);
});

test("a loss that is not finite stays out of the curve", () => {
  const { batch } = meaning({ steps: [{ ...step, loss: Number.NaN }] });
  expect(batch).toMatchObject({ metrics: [], progress: { loss: null } });
});

test("a checkpoint becomes a row and an event with a key, so that a report sent twice means the same", () => {
  const report = {
    checkpoints: [
      { step: 5, key: "runs/run_1/checkpoints/step-00000005", sizeBytes: 10n, manifestSha256: "s", isBest: true },
    ],
  };
  const { batch } = meaning(report);
  expect(batch?.checkpoints).toMatchObject([{ runId: "run_1", step: 5, attempt: 2, isBest: true, sizeBytes: 10 }]);
  expect(batch?.events).toMatchObject([{ key: "checkpoint-2-5", type: "checkpoint.saved" }]);
  expect(meaning(report)).toEqual(meaning(report));
});

test("an evaluation gets one id whatever the attempt, its scores go to the run", () => {
  const evaluation = {
    phase: "after",
    step: 100,
    scores: { "exact-match": 62.5 },
    samples: 8,
    seconds: 3,
    resultsKey: "k",
  };
  const { batch, evaluations, transition } = meaning({ phase: Phase.EVALUATING_AFTER, evaluations: [evaluation] });
  expect(batch?.scores).toEqual({ after: { "exact-match": 62.5 } });
  expect(evaluations).toMatchObject([
    { id: "eval_1-after-100", update: { runId: "run_1", state: "succeeded", samples: 8, resultsKey: "k" } },
  ]);
  expect(batch?.events?.[0]?.message).toBe("evaluation after: exact-match 62.5");
  expect(transition).toMatchObject({ to: "evaluating", reason: "final-evaluation" });
});

test("warnings of the worker reach the run's history, other lines do not", () => {
  const { batch } = meaning({
    logLines: [
      { level: "info", message: "a" },
      { level: "warn", message: "storage does not answer" },
    ],
  });
  expect(batch?.events).toMatchObject([{ type: "warning", message: "storage does not answer" }]);
});
