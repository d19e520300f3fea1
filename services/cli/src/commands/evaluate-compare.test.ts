import type { EvaluationComparison, EvaluationSuite, PairedComparison } from "@drydock/spec";
import { expect, test } from "vitest";
import { describeComparison } from "./evaluate-compare.ts";
import { describeSuite } from "./evaluate-suite.ts";

const all: PairedComparison = {
  metric: "exact-match",
  slice: null,
  rows: 20,
  a: 95,
  b: 50,
  difference: 45,
  interval: { low: 20, high: 65, level: 0.95 },
  pValue: 0.0117,
};

test("a comparison is a table of slices, and the rows that changed", () => {
  const compared: EvaluationComparison = {
    a: { evaluationId: "eval_a", model: "weld@3", dataset: "weld@1" },
    b: { evaluationId: "eval_b", model: "weld@2", dataset: "weld@1" },
    overall: all,
    slices: [{ ...all, slice: "tag:night", rows: 10, difference: -5, pValue: 0.0001 }],
    onlyInA: 1,
    onlyInB: 2,
    wonCount: 10,
    lostCount: 1,
    won: [],
    lost: [
      {
        rowId: "r3",
        fileName: null,
        prompt: "How\nmany?",
        expected: "two",
        answerA: "three",
        answerB: "two",
        scoreA: 0,
        scoreB: 100,
      },
    ],
  };
  expect(describeComparison(compared)).toEqual([
    "a: weld@3 on weld@1 (eval_a)",
    "b: weld@2 on weld@1 (eval_b)",
    "",
    "ROWS OF    ROWS  A EXACT-MATCH  B     A − B  95 %          P",
    "all          20  95.0           50.0  +45.0  20.0 to 65.0  0.012",
    "tag:night    10  95.0           50.0  -5.0   20.0 to 65.0  <0.001",
    "",
    "3 rows that only one of them has do not count.",
    "",
    "10 rows are better in a, 1 worse.",
    "",
    "worse in a:",
    "  r3: How many?",
    "      right: two",
    "      a:     three   (0.0)",
    "      b:     two   (100.0)",
  ]);
});

test("a suite is a table of pairs and a ranking; what failed says why", () => {
  const cell = { dataset: "weld@1", evaluationId: "eval_1", message: "", samples: 4 };
  const suite: EvaluationSuite = {
    id: "suite_1",
    name: "weekly",
    state: "failed",
    message: "2 of 2 evaluations are over, 1 failed",
    spec: { name: "weekly", models: ["a", "b"], datasets: ["weld@1"], task: "vqa", maxNewTokens: 128, image: {} },
    headline: "exact-match",
    cells: [
      {
        ...cell,
        model: "a",
        state: "succeeded",
        scores: { "exact-match": 75 },
        intervals: { "exact-match": { low: 25, high: 100, level: 0.95 } },
      },
      { ...cell, model: "b", state: "failed", message: "out of memory", scores: null, intervals: null },
    ],
    ranking: [{ rank: 1, model: "a", score: 75, datasets: 1 }],
    createdAt: "2026-01-01T00:00:00.000Z",
    updatedAt: "2026-01-01T00:00:00.000Z",
  };
  const lines = describeSuite(suite);
  expect(lines[2]).toBe("state: failed: 2 of 2 evaluations are over, 1 failed");
  expect(lines.slice(-2)).toEqual([
    "a      weld@1  eval_1      succeeded              75.0         25.0–100.0",
    "b      weld@1  eval_1      failed: out of memory  -            -",
  ]);
});
