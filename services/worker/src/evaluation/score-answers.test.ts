import { expect, test } from "vitest";
import { SampleResult, type DataRecord } from "@drydock/spec";
import { scorerOf } from "./score-answers.ts";

const record: DataRecord = {
  rowId: "r1",
  split: "validation",
  task: "vqa",
  source: { file: "a.jsonl", row: 1 },
  images: [{ key: "images/x.png", sha256: "x", fileName: "weld.png", width: 100, height: 50, sizeBytes: 1 }],
  messages: [
    { role: "user", content: "<image>\nHow many?" },
    { role: "assistant", content: "two" },
  ],
};
const grounding: DataRecord = {
  ...record,
  task: "phrase-grounding",
  messages: [{ role: "user", content: "<image>Find the crack." }],
  groundings: [{ phrase: "crack", boxes: [[0.1, 0.2, 0.3, 0.4]] }],
};

const thousandths = () => ({ convention: "json-relative-1000" as const });

test("answers to questions are compared as text", () => {
  const { scores, results } = scorerOf("vqa", ["exact-match"]).score(
    [record, { ...record, rowId: "r2" }],
    ["Two", "three"],
    thousandths,
  );
  expect(scores).toEqual({ "exact-match": 50 });
  expect(results.map((result) => SampleResult.parse(result))).toMatchObject([
    {
      rowId: "r1",
      imageKey: "images/x.png",
      fileName: "weld.png",
      width: 100,
      height: 50,
      prompt: "How many?",
      expected: "two",
      answer: "Two",
      isParsable: true,
      scores: { "exact-match": 100 },
    },
    { rowId: "r2", scores: { "exact-match": 0 } },
  ]);
});

test("boxes are read from the answer and compared with the expected ones", () => {
  const { scores, results } = scorerOf("phrase-grounding").score(
    [grounding],
    ['[{"bbox_2d": [100, 200, 300, 400], "label": "crack"}]'],
    thousandths,
  );
  expect(scores).toMatchObject({ "f1@0.5": 100, iou: 100 });
  expect(results[0]).toMatchObject({
    expected: '[{"bbox_2d": [100, 200, 300, 400], "label": "crack"}]',
    answeredGroundings: grounding.groundings,
    expectedGroundings: grounding.groundings,
  });
});

test("boxes in pixels of the resized picture are measured in it", () => {
  const space = () => ({ convention: "json-resized-pixels" as const, resized: { width: 200, height: 100 } });
  const { scores, results } = scorerOf("phrase-grounding").score(
    [grounding],
    ['[{"bbox_2d": [20, 20, 60, 40], "label": "crack"}]'],
    space,
  );
  expect(scores).toMatchObject({ iou: 100 });
  expect(results[0]).toMatchObject({ expected: '[{"bbox_2d": [20, 20, 60, 40], "label": "crack"}]' });
});

test("an answer that cannot be read counts every expected box as missed, and says so", () => {
  const { scores, results } = scorerOf("phrase-grounding", ["recall@0.5"]).score(
    [grounding],
    ["I see a crack."],
    thousandths,
  );
  expect(scores).toEqual({ "recall@0.5": 0 });
  expect(results[0]).toMatchObject({ isParsable: false, answeredGroundings: [] });
});

test("a metric that the task does not have is refused before anything runs", () => {
  expect(() => scorerOf("vqa", ["map"])).toThrow('metric "map" is not one of task "vqa"');
});

test("tags of a row make slices, each score has an interval", () => {
  const records = ["night", "day", "night"].map((tag, index) => ({ ...record, rowId: `r${index}`, tags: [tag] }));
  const { results, details } = scorerOf("vqa", ["exact-match"]).score(records, ["two", "three", "two"], thousandths);
  expect(results.map(({ tags }) => tags)).toEqual([["night"], ["day"], ["night"]]);
  expect(details().slices.map(({ name, count, scores }) => [name, count, scores["exact-match"]])).toEqual([
    ["tag:night", 2, 100],
    ["tag:day", 1, 0],
    ["size:small", 3, expect.closeTo(66.67, 2)],
  ]);
  expect(details().intervals["exact-match"]).toEqual({ low: 0, high: 100, level: 0.95 });
});
