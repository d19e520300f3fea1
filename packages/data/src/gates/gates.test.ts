import { InvalidError } from "@drydock/kit";
import { expect, test } from "vitest";
import type { IdentifiedSample } from "../statistics/paired-samples.ts";
import { SeededRandom } from "../statistics/random.ts";
import { evaluateGate, type GateQuestion } from "./evaluate-gate.ts";
import { checkGateRules, explainGateRule, parseGateRule } from "./gate-rule.ts";

test("a rule is read with its slice and its significance, and says itself in words", () => {
  const rule = parseGateRule('candidate.iou@0.5 >= production.iou@0.5 + 0.01 on slice "night" with significance 0.05');
  expect(rule).toMatchObject({
    metric: "iou@0.5",
    comparison: ">=",
    bound: { kind: "production", metric: "iou@0.5", change: "+", by: 0.01 },
    slice: "night",
    significance: 0.05,
  });
  expect(explainGateRule(rule)).toBe(
    "the candidate's iou@0.5 on the slice \"night\" is at least production's plus 0.01, and the difference is not by chance (p ≤ 0.05)",
  );
  expect(explainGateRule(parseGateRule("candidate.exact-match>60"))).toBe("the candidate's exact-match is above 60");
  expect(explainGateRule(parseGateRule("candidate.f1@0.5 > production.f1@0.5 * 1.02"))).toBe(
    "the candidate's f1@0.5 is above 1.02 times production's",
  );
});

test.each([
  ["", "at its end there should be candidate.<metric>"],
  ["production.iou >= 3", 'at column 1 there should be candidate.<metric>, not "production.iou"'],
  ["candidate.iou == 3", 'at column 15 there should be one of >=, >, <=, <, not "="'],
  ["candidate.iou >= many", 'at column 18 there should be a number or production.<metric>, not "many"'],
  ["candidate.iou >= production.iou + much", 'at column 35 there should be a number, not "much"'],
  [
    "candidate.iou >= 3 on slice night",
    'at column 29 there should be the name of a slice in double quotes, such as "night"',
  ],
  [
    "candidate.iou >= production.iou with significance 5",
    'a level of at least 0.0001 and below 1, such as 0.05, not "5"',
  ],
  ["candidate.iou >= 3 please", 'at column 20 there should be nothing more, not "please"'],
])("%j is refused where it goes wrong", (text, sentence) => {
  expect(() => parseGateRule(text)).toThrow(sentence);
});

test("whatever is written, the parser answers or refuses with its own error", () => {
  const random = new SeededRandom(5);
  const parts = [
    "candidate.",
    "production.",
    "iou",
    "@0.5",
    ">=",
    "<",
    "=",
    "+",
    "-",
    "*",
    "1",
    ".5",
    '"',
    "on",
    "slice",
    "with",
    "significance",
    " ",
    "\u0000",
    "é",
  ];
  const surprises: unknown[] = [];
  for (let round = 0; round < 5000; round++) {
    const text = Array.from({ length: random.below(12) }, () => parts[random.below(parts.length)]).join("");
    try {
      parseGateRule(text);
    } catch (error) {
      if (!(error instanceof InvalidError)) surprises.push(error);
    }
  }
  expect(surprises).toEqual([]);
});

test("metrics and slices that there are not are named, with those that there are", () => {
  const check = (text: string): (() => void) => {
    const rules = [parseGateRule(text)];
    return () => checkGateRules(rules, { task: "vqa", slices: ["tag:night", "size:small"] });
  };
  expect(check("candidate.exact-matsch >= 3")).toThrow(
    'names the metric "exact-matsch", which task "vqa" does not have: did you mean exact-match or',
  );
  expect(check("candidate.anls >= production.iou@0.5")).toThrow('names the metric "iou@0.5"');
  expect(check('candidate.anls >= 3 on slice "fog"')).toThrow(
    'names the slice "fog", which the data does not have: there are tag:night, size:small',
  );
  expect(check('candidate.anls >= 3 on slice "night"')).not.toThrow();
  expect(check("candidate.anls >= 3 with significance 0.05")).toThrow("but compares with a number");
});

/** Rows of which so many are right; every other one is tagged `night`. */
function answers(right: number, rows = 100): IdentifiedSample[] {
  return Array.from({ length: rows }, (_, index) => ({
    rowId: String(index),
    expected: "a",
    answer: index < right ? "a" : "b",
    expectedGroundings: [],
    answeredGroundings: [],
    tags: index % 2 === 0 ? ["night"] : [],
  }));
}
const ask = (rule: string, candidate: number, production: number | null, change: Partial<GateQuestion> = {}) =>
  evaluateGate([parseGateRule(rule)], {
    candidate: { task: "vqa", samples: answers(candidate) },
    production: production === null ? null : { task: "vqa", samples: answers(production) },
    withoutProduction: "refuse",
    significance: null,
    ...change,
  });

test("a candidate is held against a number and against production, on all rows or on a slice", () => {
  expect(ask("candidate.exact-match >= 60", 60, null)).toMatchObject({
    passed: true,
    results: [{ reason: "candidate.exact-match is 60 on 100 rows; it must be at least 60" }],
  });
  expect(ask("candidate.exact-match >= production.exact-match + 5", 64, 60).results[0]).toMatchObject({
    passed: false,
    difference: 4,
    reason: "candidate.exact-match is 64, production's is 60 (100 rows): it must be at least 65",
  });
  expect(ask('candidate.exact-match > production.exact-match on slice "night"', 64, 60).results[0]).toMatchObject({
    passed: true,
    candidate: 64,
    production: 60,
    rows: 50,
  });
  expect(ask("candidate.exact-match >= production.exact-match * 1.1", 65, 60).passed).toBe(false);
});

test("a rule over two metrics looks at the rows that both models answered, too", () => {
  const [result] = ask("candidate.exact-match >= production.anls", 45, 0, {
    production: { task: "vqa", samples: answers(60, 200) },
  }).results;
  expect(result).toMatchObject({ passed: false, candidate: 45, production: 60, rows: 100 });
});

test("a difference that may be chance does not pass a gate that asks for significance", () => {
  const rule = "candidate.exact-match > production.exact-match with significance 0.05";
  expect(ask(rule, 63, 60).results[0]).toMatchObject({
    passed: false,
    reason:
      "candidate.exact-match is 63, production's is 60 (100 rows): the difference of 3 may be chance (p = 0.25, must be at most 0.05)",
  });
  expect(ask(rule, 80, 60).passed).toBe(true);
  expect(ask("candidate.exact-match > production.exact-match", 63, 60, { significance: 0.05 }).passed).toBe(false);
  // A rule that lets the candidate be a little worse has nothing to prove.
  expect(ask("candidate.exact-match >= production.exact-match - 2", 60, 60, { significance: 0.05 }).passed).toBe(true);
});

test("a gate that asks for more certainty than the usual number of permutations can show gets more of them", () => {
  const rule = "candidate.exact-match > production.exact-match with significance 0.0005";
  expect(ask(rule, 100, 0).results[0]).toMatchObject({ passed: true, candidate: 100, production: 0 });
  const ofGate = ask("candidate.exact-match > production.exact-match", 100, 0, { significance: 0.0005 });
  expect(ofGate.results[0]?.reason).toContain("p = 0.0004998");
  expect(ofGate.passed).toBe(true);
  expect(() => parseGateRule("candidate.anls > production.anls with significance 0.00001")).toThrow(
    'a level of at least 0.0001 and below 1, such as 0.05, not "0.00001"',
  );
});

test("without a production model a rule says how the first one gets through", () => {
  const rule = "candidate.exact-match >= production.exact-match";
  expect(ask(rule, 60, null).results[0]).toMatchObject({
    passed: false,
    reason:
      'there is no production model yet to compare with: promote a first version by hand, or set withoutProduction to "pass"',
  });
  expect(ask(rule, 60, null, { withoutProduction: "pass" }).passed).toBe(true);
});

test("a slice that the rows do not have is a reason to refuse, not a crash", () => {
  const { passed, results } = ask('candidate.exact-match >= production.exact-match on slice "fog"', 60, 60);
  expect(passed).toBe(false);
  expect(results[0]!.reason).toContain("fog");
});
