import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import type { DataRecord, SampleResult } from "@drydock/spec";
import type { Question } from "../training/trainer.ts";
import { evenly, ValidationEvaluator } from "./validation-evaluator.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-evaluator-"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const records = Array.from({ length: 5 }, (_, index) => ({ rowId: `row${index}` }) as DataRecord);

function setUp() {
  const batches: number[] = [];
  const model = {
    answer: async (questions: readonly Question[]) => {
      batches.push(questions.length);
      return questions.map(({ record }) => `answer to ${record.rowId}`);
    },
    boxSpaceOf: () => ({ convention: "json-relative-1000" as const }),
  };
  const storage = new FolderStorage(root);
  const evaluator = new ValidationEvaluator({
    storage,
    records,
    resultsKeyOf: (phase, step) => `runs/r1/evaluations/${phase}-${step}.jsonl`,
    metrics: ["exact-match"],
    maxSamplesDuring: 2,
    maxNewTokens: 8,
    batchSize: 2,
    score: (asked, answers) => ({
      scores: { "exact-match": asked.length },
      results: asked.map(({ rowId }, index) => ({ rowId, answer: answers[index] }) as SampleResult),
      details: () => ({
        intervals: {},
        slices: [],
        slicesLeftOut: 0,
        resamples: { "exact-match": asked.length },
        seed: 42,
      }),
    }),
    nowMs: () => 0,
  });
  return { model, storage, evaluator, batches, signal: new AbortController().signal };
}

test("the whole split is answered in batches, scored, and stored row by row", async () => {
  const { evaluator, model, storage, batches, signal } = setUp();
  expect(await evaluator.evaluate(model, "after", 20, signal)).toEqual({
    scores: { "exact-match": 5 },
    headline: { metric: "exact-match", score: 5 },
    samples: 5,
    seconds: 0,
    resultsKey: "runs/r1/evaluations/after-20.jsonl",
  });
  expect(batches).toEqual([2, 2, 1]);
  const lines = Buffer.from(await storage.get("runs/r1/evaluations/after-20.jsonl"))
    .toString()
    .trimEnd()
    .split("\n");
  expect(lines.map((line) => JSON.parse(line) as SampleResult)).toEqual(
    records.map(({ rowId }) => ({ rowId, answer: `answer to ${rowId}` })),
  );
});

test("intervals and slices lie beside the results", async () => {
  const { evaluator, model, storage, signal } = setUp();
  await evaluator.evaluate(model, "after", 20, signal);
  const details: unknown = JSON.parse(
    Buffer.from(await storage.get("runs/r1/evaluations/after-20.details.json")).toString(),
  );
  expect(details).toMatchObject({ resamples: { "exact-match": 5 } });
});

test("an evaluation while training uses the same few rows each time, before and after all", async () => {
  const { evaluator, model, signal } = setUp();
  expect((await evaluator.evaluate(model, "during", 4, signal))?.samples).toBe(2);
  expect((await evaluator.evaluate(model, "before", 0, signal))?.samples).toBe(5);
});

test("an evaluation that is ended early stores nothing", async () => {
  const { evaluator, model, storage } = setUp();
  expect(await evaluator.evaluate(model, "after", 20, AbortSignal.abort())).toBeNull();
  expect(await storage.head("runs/r1/evaluations/after-20.jsonl")).toBeNull();
});

test("a choice of rows is spread over all of them", () => {
  expect(evenly([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 4)).toEqual([0, 2, 5, 7]);
  expect(evenly([0, 1], 4)).toEqual([0, 1]);
});
