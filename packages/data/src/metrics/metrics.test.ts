import fc from "fast-check";
import { expect, test } from "vitest";
import { anls, exactMatch, relaxedAccuracy, vqaAccuracy } from "./answer-metrics.ts";
import { assign } from "./assign.ts";
import { bleu } from "./bleu.ts";
import { intersectionOverUnion } from "./box-overlap.ts";
import { ciderD } from "./cider-d.ts";
import { macroRates, matchedOverlaps, microRates } from "./grounding-scores.ts";
import { meanAveragePrecision } from "./mean-average-precision.ts";
import { normaliseAnswer } from "./normalise-answer.ts";
import { rougeL } from "./rouge-l.ts";
import { metricNames, scoreSamples, type ScoredSample } from "./score-samples.ts";

test.each([
  ["Two dogs.", "2 dogs"],
  ["the U.S. flag", "us flag"],
  ["1,000", "1000"],
  ["it's a cat!", "it's cat"],
  ["dont know", "don't know"],
  ["3.5", "3.5"],
  ["A red-and-white sign", "red and white sign"],
  ["none", "0"],
  ["ten-twelve", "10 twelve"],
  ["No.", "no"],
  ["black & white", "black & white"],
  ["mr. smith's", "mr smith's"],
  ["constructor", "constructor"],
])("%j normalises to %j as in the VQA evaluation", (answer, normalised) => {
  expect(normaliseAnswer(answer)).toBe(normalised);
});

test("exact match compares normalised answers and any reference", () => {
  expect(exactMatch("A dog.", ["cat", "dog"])).toBe(1);
  expect(exactMatch("dogs", ["dog"])).toBe(0);
  expect(exactMatch("the", ["a"])).toBe(0);
});

test.each([
  [0, 0],
  [1, 0.3],
  [2, 0.6],
  [3, 0.9],
  [4, 1],
])("%i of ten agreeing answers have VQA accuracy %d", (agreeing, score) => {
  const references = Array.from({ length: 10 }, (_, index) => (index < agreeing ? "dog" : `cat ${index}`));
  expect(vqaAccuracy("dog", references)).toBeCloseTo(score, 12);
});

test("VQA accuracy with a single reference is the normalised exact match", () => {
  expect(vqaAccuracy("Two dogs", ["two dogs"])).toBe(1);
  expect(vqaAccuracy("three dogs", ["two dogs"])).toBe(0);
});

test("ANLS measures edits against the longer text and cuts off below a half", () => {
  expect(anls("hello word", ["hello world"])).toBeCloseTo(1 - 1 / 11, 12);
  expect(anls("abc", ["xyz"])).toBe(0);
  expect(anls("", [""])).toBe(1);
});

test("relaxed accuracy allows five percent on numbers and nothing on words", () => {
  expect(relaxedAccuracy("10.5", ["10"])).toBe(1);
  expect(relaxedAccuracy("10.6", ["10"])).toBe(0);
  expect(relaxedAccuracy("0.12", ["12%"])).toBe(1);
  expect(relaxedAccuracy("0", ["0"])).toBe(1);
  expect(relaxedAccuracy("Red", ["red"])).toBe(1);
});

const words = (text: string): string[] => text.split(" ");
const captions = [
  {
    answer: words("a man rides a horse on the beach"),
    references: ["a man riding a horse on the beach", "a person rides a brown horse near the sea"].map(words),
  },
  {
    answer: words("two dogs are playing with a ball"),
    references: ["two dogs playing in the snow", "dogs play with a ball in snow"].map(words),
  },
  { answer: words("a bus on a street"), references: ["a red bus parked on the street"].map(words) },
];

test("BLEU equals the reference's golden values", () => {
  const golden = [0.8143536761509281, 0.6245807581441563, 0.4654716512292134, 0.35889870614374325];
  for (const [index, { score }] of bleu(captions).entries()) expect(score).toBeCloseTo(golden[index] ?? 0, 14);
});

test("ROUGE-L equals the reference's golden values", () => {
  const { score, perSample } = rougeL(captions);
  expect(score).toBeCloseTo(0.6978811418466591, 14);
  for (const [index, value] of [0.875, 0.57142857, 0.64721485].entries())
    expect(perSample[index]).toBeCloseTo(value, 8);
});

test("CIDEr-D equals the reference's golden values", () => {
  const { score, perSample } = ciderD(captions);
  expect(score).toBeCloseTo(2.4925769665559874, 13);
  for (const [index, value] of [3.58623672, 2.19194647, 1.6995477].entries())
    expect(perSample[index]).toBeCloseTo(value, 8);
});

test("IoU is taken on continuous coordinates", () => {
  expect(intersectionOverUnion([0, 0, 2, 2], [1, 0, 3, 2])).toBeCloseTo(1 / 3, 12);
  expect(intersectionOverUnion([0, 0, 1, 1], [1, 0, 2, 1])).toBe(0);
});

const anyBox = fc
  .tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
  )
  .map(([a, b, c, d]): [number, number, number, number] => [
    Math.min(a, c),
    Math.min(b, d),
    Math.max(a, c),
    Math.max(b, d),
  ]);

test("IoU is symmetric and within 0..1", () => {
  fc.assert(
    fc.property(anyBox, anyBox, (first, second) => {
      const iou = intersectionOverUnion(first, second);
      expect(iou).toBeGreaterThanOrEqual(0);
      expect(iou).toBeLessThanOrEqual(1 + 1e-12);
      expect(iou).toBeCloseTo(intersectionOverUnion(second, first), 12);
    }),
  );
});

test("the assignment is as heavy as the best of all permutations", () => {
  const size = fc.integer({ min: 1, max: 5 });
  const weights = fc.tuple(size, size).chain(([rows, columns]) =>
    fc.array(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: columns, maxLength: columns }), {
      minLength: rows,
      maxLength: rows,
    }),
  );
  fc.assert(
    fc.property(weights, (matrix) => {
      const assigned = assign(matrix);
      const used = assigned.filter((column) => column !== null);
      expect(new Set(used).size).toBe(used.length);
      const total = assigned.reduce<number>(
        (sum, column, row) => sum + (column === null ? 0 : (matrix[row]?.[column] ?? 0)),
        0,
      );
      expect(total).toBe(heaviest(matrix, 0, new Set()));
    }),
  );
});

function heaviest(matrix: readonly (readonly number[])[], row: number, used: ReadonlySet<number>): number {
  const weights = matrix[row];
  if (!weights) return 0;
  const skipped = heaviest(matrix, row + 1, used);
  return Math.max(
    skipped,
    ...weights.map((weight, column) =>
      used.has(column) ? 0 : weight + heaviest(matrix, row + 1, new Set([...used, column])),
    ),
  );
}

test("matching prefers more pairs over one better pair", () => {
  // The first answer fits both expectations, best the first; the second answer fits only the first.
  const expected = [
    {
      phrase: "weld",
      boxes: [[0, 0, 1, 0.5] as const, [0, 0.15, 1, 0.75] as const].map(
        (box) => [...box] as [number, number, number, number],
      ),
    },
  ];
  const answered = [
    {
      phrase: "Weld ",
      boxes: [
        [0, 0.05, 1, 0.55],
        [0, 0, 1, 0.4],
      ] as [number, number, number, number][],
    },
  ];
  expect(microRates([{ expected, answered }], 0.5)).toEqual({ precision: 1, recall: 1, f1: 1 });
});

test("nothing expected and nothing answered is right", () => {
  expect(microRates([{ expected: [], answered: [] }], 0.5)).toEqual({ precision: 1, recall: 1, f1: 1 });
});

test("micro rates pool boxes, macro rates average phrases", () => {
  const box: [number, number, number, number] = [0, 0, 0.5, 0.5];
  const far: [number, number, number, number] = [0.6, 0.6, 0.9, 0.9];
  const pairs = [
    {
      expected: [
        { phrase: "a", boxes: [box, far] },
        { phrase: "b", boxes: [box] },
      ],
      answered: [
        { phrase: "a", boxes: [box, far] },
        { phrase: "c", boxes: [box] },
      ],
    },
  ];
  expect(microRates(pairs, 0.5)).toEqual({ precision: 2 / 3, recall: 2 / 3, f1: 2 / 3 });
  expect(macroRates(pairs, 0.5).f1).toBeCloseTo(1 / 3, 12);
  expect(matchedOverlaps(pairs[0] as (typeof pairs)[0])).toEqual([1, 1, 0]);
});

const expectedBoxes = [
  [1, 1, 10, 10, 50, 50],
  [1, 1, 100, 100, 80, 80],
  [1, 2, 20, 200, 40, 30],
  [2, 1, 0, 0, 120, 120],
  [2, 2, 300, 300, 20, 20],
];
const detectedBoxes = [
  [1, 1, 12, 12, 50, 50, 0.9],
  [1, 1, 100, 100, 80, 60, 0.8],
  [1, 1, 300, 10, 30, 30, 0.7],
  [1, 2, 22, 205, 40, 30, 0.6],
  [2, 1, 5, 5, 110, 110, 0.95],
  [2, 2, 310, 310, 20, 20, 0.5],
];

function toCoco([image = 0, category = 0, x = 0, y = 0, width = 0, height = 0, score = 0]: readonly number[]) {
  return { image, category, box: [x, y, x + width, y + height] as [number, number, number, number], score };
}

test.each([
  ["their scores", detectedBoxes, [0.442574, 0.752475, 0.5, 0, 0.550495, 0.7, 0.35, 0.45, 0.45, 0, 0.55, 0.7]],
  [
    "every score 1",
    detectedBoxes.map((box) => [...box.slice(0, 6), 1]),
    [0.417574, 0.710396, 0.457921, 0, 0.550495, 0.7, 0.35, 0.45, 0.45, 0, 0.55, 0.7],
  ],
])("mAP with %s equals COCO's golden statistics", (_case, detected, golden) => {
  const statistics = Object.values(meanAveragePrecision(expectedBoxes.map(toCoco), detected.map(toCoco))) as number[];
  for (const [index, value] of statistics.entries()) expect(value).toBeCloseTo(golden[index] ?? Number.NaN, 5);
});

function sample(overrides: Partial<ScoredSample>): ScoredSample {
  return { expected: "", answer: "", expectedGroundings: [], answeredGroundings: [], ...overrides };
}

test("rates of text answers are 0..100, per sample and over all", () => {
  const { scores, perSample } = scoreSamples(
    "vqa",
    ["exact-match", "rouge-l"],
    [sample({ expected: "a dog", answer: "Dog." }), sample({ expected: "two", answer: "three" })],
  );
  expect(scores["exact-match"]).toBe(50);
  expect(perSample.map((own) => own["exact-match"])).toEqual([100, 0]);
});

test("a perfect grounding scores 100 by every metric, an unparsable one 0", () => {
  const groundings = [{ phrase: "cat", boxes: [[0.1, 0.1, 0.5, 0.5] as [number, number, number, number]] }];
  const metrics = metricNames["phrase-grounding"];
  const perfect = scoreSamples("phrase-grounding", metrics, [
    sample({ expectedGroundings: groundings, answeredGroundings: groundings }),
  ]);
  expect(perfect.scores).toEqual(Object.fromEntries(metrics.map((name) => [name, expect.closeTo(100, 9)])));
  const lost = scoreSamples("phrase-grounding", metrics, [sample({ expectedGroundings: groundings })]);
  expect(lost.scores).toEqual(Object.fromEntries(metrics.map((name) => [name, 0])));
});

test("every metric of every task gives a finite score for empty answers", () => {
  for (const [task, metrics] of Object.entries(metricNames)) {
    const { scores } = scoreSamples(task as keyof typeof metricNames, metrics, [sample({}), sample({ expected: "x" })]);
    expect(Object.entries(scores).filter(([, score]) => !Number.isFinite(score))).toEqual([]);
  }
});

test("an unknown metric is refused with the known ones", () => {
  expect(() => scoreSamples("vqa", ["exact-match", "f1@0.5"], [])).toThrow(
    'metric "f1@0.5" is not one of task "vqa"; use exact-match, vqa-accuracy,',
  );
  expect(() => scoreSamples("phrase-grounding", ["blue-4"], [])).toThrow(
    expect.objectContaining({
      code: "unknown_metric",
      details: [expect.objectContaining({ path: "evaluation.metrics.0" })],
    }),
  );
});
