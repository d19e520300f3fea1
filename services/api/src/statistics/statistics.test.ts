import { parseGateRule } from "@drydock/data";
import { afterAll, expect, test } from "vitest";
import { answered } from "../../test/support/evaluated.ts";
import { compareSamples } from "./compare-samples.ts";
import { Statistics } from "./statistics.ts";

const statistics = new Statistics();
afterAll(async () => await statistics.close());

const rows = (right: number, count: number) =>
  Array.from({ length: count }, (_, row) => answered(`r${row}`, row < right ? "two" : "three"));

test("the thread answers what the same code answers here, and others are answered meanwhile", async () => {
  const question = { a: rows(1500, 2000), b: rows(900, 2000), metric: "exact-match", slice: null };
  let turns = 0;
  const ticking = setInterval(() => turns++, 5);
  const answer = await statistics.compare(question);
  clearInterval(ticking);
  expect(answer).toEqual(compareSamples(question));
  expect(answer.overall).toMatchObject({ rows: 2000, a: 75, b: 45 });
  // The comparison itself takes far longer than this.
  expect(turns).toBeGreaterThan(3);
});

test("a refusal comes back as one, with its code; a gate is answered with its reasons", async () => {
  const question = { a: rows(1, 2), b: [answered("other", "two")], metric: "exact-match", slice: null };
  await expect(statistics.compare(question)).rejects.toMatchObject({ code: "no_common_rows", isRetryable: false });
  const side = (right: number) => ({ task: "vqa" as const, samples: rows(right, 50) });
  const outcome = await statistics.gate({
    rules: [parseGateRule("candidate.exact-match >= production.exact-match")],
    question: { candidate: side(20), production: side(30), withoutProduction: "refuse", significance: null },
  });
  expect(outcome.passed).toBe(false);
  expect(outcome.results[0]?.reason).toContain("40");
});
