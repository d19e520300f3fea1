import type { Box } from "@drydock/spec";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ciderD } from "../metrics/cider-d.ts";
import { everyRow } from "../metrics/prepared-metric.ts";
import { metricNames, metricOf, scoreSamples } from "../metrics/score-samples.ts";
import { tokeniseCaption } from "../metrics/tokenise-caption.ts";
import { bootstrap, intervalOf, quantile, resamplesFor } from "./bootstrap.ts";
import { compareEvaluations } from "./compare-evaluations.ts";
import type { IdentifiedSample } from "./paired-samples.ts";
import { SeededRandom } from "./random.ts";
import { scoreWithDetails } from "./score-with-details.ts";
import { resolveSlice, sliceNamesOf } from "./slices.ts";

// Constants marked "scipy" come from scipy 1.17.1 and numpy 2.4.6: `stats.bootstrap(…, method="percentile",
// n_resamples=200000, rng=default_rng(1))`, paired where two samples are named, `stats.permutation_test(…,
// permutation_type="samples", n_resamples=inf)`, `stats.binomtest`, `np.quantile`.

const answerRow = (rowId: string, isRight: boolean): IdentifiedSample => ({
  rowId,
  expected: `thing ${rowId}`,
  answer: isRight ? `thing ${rowId}` : `other ${rowId}`,
  expectedGroundings: [],
  answeredGroundings: [],
});

const boxAt = (place: number): Box => [place / 10, 0, (place + 0.5) / 10, 1];

/** `expected` boxes of a phrase, of which `found` are answered. */
function boxRow(rowId: string, expected: number, found: number, phrase = "dog"): IdentifiedSample {
  const boxes = Array.from({ length: Math.max(expected, found) }, (_, place) => boxAt(place));
  const grounding = (count: number) => (count === 0 ? [] : [{ phrase, boxes: boxes.slice(0, count) }]);
  return {
    rowId,
    expected: "",
    answer: `${found}`,
    expectedGroundings: grounding(expected),
    answeredGroundings: grounding(found),
  };
}

test("random numbers are those of xoshiro128** and stay within their bounds", () => {
  const [first, same, other] = [new SeededRandom(1), new SeededRandom(1), new SeededRandom(2)];
  const drawn = Array.from({ length: 1000 }, () => first.below(7));
  expect(Array.from({ length: 1000 }, () => same.below(7))).toEqual(drawn);
  expect(Array.from({ length: 1000 }, () => other.below(7))).not.toEqual(drawn);
  expect(new Set(drawn)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
});

test("random numbers are spread evenly", () => {
  const random = new SeededRandom(7);
  const counts = new Float64Array(10);
  for (let index = 0; index < 100_000; index++) {
    const value = random.below(10);
    counts[value] = (counts[value] ?? 0) + 1;
  }
  // Chi-square with nine degrees of freedom: 27.9 is passed once in a thousand.
  expect([...counts].reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)).toBeLessThan(27.9);
});

test("quantiles are numpy's", () => {
  const sorted = Float64Array.from([1, 1, 2, 3, 4, 5, 6, 9]);
  expect([0.025, 0.3, 0.5, 0.975].map((share) => quantile(sorted, share))).toEqual([1, 2.1, 3.5, 8.475000000000001]);
});

test("the bootstrap of three rows has the distribution of all 27 resamples", () => {
  const values = [0, 3, 9];
  const means = values.flatMap((a) => values.flatMap((b) => values.map((c) => (a + b + c) / 3)));
  const drawn = bootstrap(3, 50_000, 1, (rows) => rows.reduce((sum, row) => sum + (values[row] ?? 0), 0) / 3);
  for (const mean of new Set(means)) {
    const share = drawn.filter((value) => value === mean).length / drawn.length;
    expect(share).toBeCloseTo(means.filter((value) => value === mean).length / 27, 2);
  }
});

test("the interval of a share of right answers is scipy's", () => {
  const isRight = [0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 1, 0, 1];
  const samples = isRight.map((right, index) => answerRow(`${index}`, right === 1));
  const { scores, details } = scoreWithDetails("vqa", ["exact-match"], samples);
  expect(scores).toEqual({ "exact-match": 70 });
  expect(details.intervals).toEqual({ "exact-match": { low: 50, high: 90, level: 0.95 } });
  expect(details.resamples).toEqual({ "exact-match": 1000 });
});

test("the interval of a pooled ratio is scipy's: boxes are pooled in each resample", () => {
  const found = [1, 0, 2, 1, 1, 0, 3, 1, 2, 1, 0, 1];
  const expected = [2, 1, 4, 2, 3, 1, 6, 3, 4, 3, 2, 2];
  const samples = found.map((count, index) => boxRow(`${index}`, expected[index] ?? 0, count));
  const metric = metricOf("recall@0.5")(samples);
  const { low, high } = intervalOf(bootstrap(samples.length, 20_000, 3, metric.scoreOf));
  expect(metric.scoreOf(everyRow(samples.length))).toBeCloseTo(39.3939393939, 8);
  expect(low).toBeCloseTo(29.1666666667, 0);
  expect(high).toBeCloseTo(46.1538461538, 0);
});

const groundingSamples = fc
  .array(
    fc.record({
      expected: fc.nat(4),
      found: fc.nat(4),
      phrase: fc.constantFrom("dog", "cat", "bus"),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((rows) => rows.map(({ expected, found, phrase }, index) => boxRow(`${index}`, expected, found, phrase)));

const textSamples = fc
  .array(fc.record({ expected: words(), answer: words() }), { minLength: 1, maxLength: 12 })
  .map((rows) =>
    rows.map((row, index) => ({ ...row, rowId: `${index}`, expectedGroundings: [], answeredGroundings: [] })),
  );

function words() {
  return fc
    .array(fc.constantFrom("a", "red", "bus", "dog", "runs"), { minLength: 1, maxLength: 7 })
    .map((all) => all.join(" "));
}

test.each(["phrase-grounding", "vqa"] as const)(
  "a resample of %s rows scores as a data set of those rows would",
  (task) => {
    fc.assert(
      fc.property(task === "vqa" ? textSamples : groundingSamples, fc.nat(), (samples, seed) => {
        for (const name of metricNames[task]) {
          const metric = metricOf(name)(samples);
          const random = new SeededRandom(seed);
          const rows = Int32Array.from({ length: samples.length }, () => random.below(samples.length)).sort();
          const drawn = [...rows].flatMap((row) => samples[row] ?? []);
          expect(metric.scoreOf(rows), name).toBeCloseTo(scoreSamples(task, [name], drawn).scores[name] ?? -1, 9);
        }
      }),
      { numRuns: 60 },
    );
  },
);

test("CIDEr-D of a choice counts the frequencies of n-grams in that choice", () => {
  const texts = [
    ["a man rides a horse", "a man riding a horse on the beach"],
    ["two dogs playing in snow", "two dogs playing in the snow"],
    ["a red bus", "a red bus parked on the street"],
  ] as const;
  const samples = texts.map(([answer, expected], index) => ({
    ...answerRow(`${index}`, true),
    answer,
    expected,
  }));
  const tokenised = texts.map(([answer, expected]) => ({
    answer: tokeniseCaption(answer),
    references: [tokeniseCaption(expected)],
  }));
  const metric = metricOf("cider-d")(samples);
  expect(metric.scoreOf(Int32Array.of(0, 2))).toBeCloseTo(
    ciderD([tokenised[0], tokenised[2]].flatMap((row) => row ?? [])).score,
    12,
  );
  expect(metric.scoreOf(Int32Array.of(1))).toBe(0);
});

test("slow metrics get fewer resamples, and so do very many rows", () => {
  expect(resamplesFor("exact-match", 500)).toBe(1000);
  expect(resamplesFor("cider-d", 500)).toBe(200);
  expect(resamplesFor("exact-match", 1_000_000)).toBe(200);
  expect(resamplesFor("map", 1_000_000)).toBe(100);
  expect(resamplesFor("map", 10, 50)).toBe(50);
});

test("scores are those of scoreSamples; one row has no interval", () => {
  const samples = [boxRow("1", 2, 1), boxRow("2", 3, 3)];
  const metrics = ["f1@0.5", "iou", "map"];
  const { scores, perSample, details } = scoreWithDetails("phrase-grounding", metrics, samples);
  expect({ scores, perSample }).toEqual(scoreSamples("phrase-grounding", metrics, samples));
  expect(Object.keys(details.intervals)).toEqual(metrics);
  expect(scoreWithDetails("phrase-grounding", metrics, samples.slice(0, 1)).details.intervals).toEqual({});
  expect(scoreWithDetails("phrase-grounding", metrics, []).scores).toEqual({ "f1@0.5": 0, iou: 0, map: 0 });
});

test("slices are by tag, class and picture size; a class counts only its own boxes", () => {
  const night = { ...boxRow("1", 2, 2, "Dog."), tags: ["night"], width: 100, height: 100 };
  const day = { ...boxRow("2", 2, 0, "cat"), tags: ["day"], width: 1000, height: 1000 };
  const wrong = { ...boxRow("3", 0, 1, "dog"), width: 300, height: 300 };
  const { details } = scoreWithDetails("phrase-grounding", ["precision@0.5", "recall@0.5"], [night, day, wrong]);
  const byName = Object.fromEntries(details.slices.map(({ name, count, scores }) => [name, { count, ...scores }]));
  expect(byName).toEqual({
    "tag:day": { count: 1, "precision@0.5": 0, "recall@0.5": 0 },
    "tag:night": { count: 1, "precision@0.5": 100, "recall@0.5": 100 },
    "class:cat": { count: 1, "precision@0.5": 0, "recall@0.5": 0 },
    // The dog that was seen where there is none counts against dogs.
    "class:dog": { count: 2, "precision@0.5": (2 / 3) * 100, "recall@0.5": 100 },
    "size:large": { count: 1, "precision@0.5": 0, "recall@0.5": 0 },
    "size:medium": { count: 1, "precision@0.5": 0, "recall@0.5": 0 },
    "size:small": { count: 1, "precision@0.5": 100, "recall@0.5": 100 },
  });
});

test("of very many classes the most frequent ones are slices, and the others are counted", () => {
  const samples = Array.from({ length: 40 }, (_, index) => boxRow(`${index}`, 1, 1, `thing ${index}`));
  const { names, leftOut } = sliceNamesOf([...samples, boxRow("x", 1, 1, "thing 39")]);
  expect(names).toHaveLength(30);
  expect(names[0]).toBe("class:thing 39");
  expect(leftOut).toBe(10);
});

test("slices are found with or without their kind", () => {
  const known = ["tag:night", "class:night", "class:dog"];
  expect(resolveSlice(known, "class:night")).toBe("class:night");
  expect(resolveSlice(known, "dog")).toBe("class:dog");
  expect(() => resolveSlice(known, "night")).toThrow('"night" may be tag:night or class:night: write it in full');
  expect(() => resolveSlice(known, "fog")).toThrow(
    'there is no slice "fog"; the rows have tag:night, class:night, class:dog',
  );
  expect(() => resolveSlice([], "fog")).toThrow("the rows have neither tags nor phrases nor pictures");
});

test("eight paired scores have scipy's exact permutation p-value and nearly its bootstrap interval", () => {
  // Ten boxes a row, so that a row's recall is any tenth; pooled and mean recall are the same then.
  const found = { a: [8, 7, 9, 6, 9, 7, 8, 9], b: [7, 8, 8, 6, 8, 6, 8, 8] };
  const rows = (counts: readonly number[]) => counts.map((count, index) => boxRow(`${index}`, 10, count));
  const { difference, pValue, interval } = compareEvaluations(rows(found.a), rows(found.b), { metric: "recall@0.5" });
  expect(difference).toBeCloseTo(5, 12);
  // Six of eight differ, five up and one down: of 64 ways to swap, |d| ≥ 4 steps in 2 · (1 + 6).
  expect(pValue).toBe(14 / 64);
  expect(interval.low).toBeLessThanOrEqual(0);
  expect(interval.high).toBeGreaterThan(5);
});

test("a paired bootstrap interval is scipy's", () => {
  const a = [80, 75, 90, 60, 95, 70, 85, 88];
  const b = [70, 76, 80, 62, 85, 60, 80, 80];
  const drawn = bootstrap(8, 50_000, 5, (rows) => {
    let sum = 0;
    for (const row of rows) sum += (a[row] ?? 0) - (b[row] ?? 0);
    return sum / 8;
  });
  expect(intervalOf(drawn).low).toBeCloseTo(2.75, 0);
  expect(intervalOf(drawn).high).toBeCloseTo(9.375, 0);
});

test("for shares of right answers the permutation test is McNemar's exact test", () => {
  const rows = (right: readonly boolean[]) => right.map((isRight, index) => answerRow(`${index}`, isRight));
  const both = Array.from({ length: 20 }, () => true);
  const a = [...both, ...Array.from({ length: 9 }, (_, index) => index < 8)];
  const b = [...both, ...Array.from({ length: 9 }, (_, index) => index >= 8)];
  // scipy: binomtest(1, 9).
  expect(compareEvaluations(rows(a), rows(b), { metric: "exact-match" }).pValue).toBe(0.0390625);
});

test("with many rows that differ, the sampled p-value is near McNemar's", () => {
  const rows = (isRight: (index: number) => boolean) =>
    Array.from({ length: 40 }, (_, index) => answerRow(`${index}`, isRight(index)));
  const compared = compareEvaluations(
    rows((index) => index < 28),
    rows((index) => index >= 28),
    { metric: "exact-match", resamples: 20_000 },
  );
  // scipy: binomtest(12, 40).
  expect(compared.pValue).toBeCloseTo(0.01658900337497471, 2);
  expect(compared.difference).toBeCloseTo(40, 9);
});

test("two equal evaluations differ by nothing, for certain", () => {
  const rows = Array.from({ length: 30 }, (_, index) => answerRow(`${index}`, index % 3 === 0));
  const { difference, interval, pValue } = compareEvaluations(rows, rows, { metric: "exact-match" });
  expect({ difference, interval, pValue }).toEqual({
    difference: 0,
    interval: { low: 0, high: 0, level: 0.95 },
    pValue: 1,
  });
});

test("a comparison is of common rows, in a slice when one is named, and the same each time", () => {
  const rows = (isRight: boolean, from: number) =>
    Array.from({ length: 20 }, (_, index) => ({
      ...answerRow(`${index + from}`, isRight || index % 2 === 0),
      tags: [index + from < 15 ? "night" : "day"],
    }));
  const [a, b] = [rows(true, 0), rows(false, 5)];
  const options = { metric: "exact-match", slice: "night", seed: 9, resamples: 300 };
  const compared = compareEvaluations(a, b, options);
  expect(compared).toMatchObject({ slice: "tag:night", rows: 10, a: 100, b: 50, difference: 50 });
  expect(compareEvaluations(a, b, options)).toEqual(compared);
  expect(compareEvaluations(a, b, { ...options, slice: undefined }).rows).toBe(15);
});

test("what cannot be compared says why", () => {
  const rows = [answerRow("1", true)];
  expect(() => compareEvaluations(rows, [answerRow("2", true)], { metric: "exact-match" })).toThrow(
    "the two have no row in common (1 and 1 rows): compare evaluations of the same validation split",
  );
  expect(() => compareEvaluations(rows, rows, { metric: "accuracy" })).toThrow(
    'there is no metric "accuracy"; use iou',
  );
  expect(() => compareEvaluations(rows, rows, { metric: "exact-match", slice: "night" })).toThrow(
    'there is no slice "night"',
  );
});
