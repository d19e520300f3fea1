import { expect, test } from "vitest";
import { evaluationLeft, timeLeft } from "./pace.ts";

const planned = { low: 800, expected: 1000, high: 1500, basis: "" };

test("a pace of 2 s ± 0.1 s over 100 steps leaves 400 further steps 800 s, with the error of a sum", () => {
  // 2 · 0.1 · √(400 + 400²/100) = 0.2 · √2000 = 8.94 s, less than the 5 % that are always allowed for: 40 s.
  const pace = { steps: 100, meanSeconds: 2, deviationSeconds: 0.1 };
  expect(timeLeft({ stepsLeft: 400, totalSteps: 500, pace, planned })).toEqual({
    seconds: { low: 760, expected: 800, high: 840 },
    basis: "by its own pace, measured over 100 steps",
  });
});

test("steps that scatter widen the range", () => {
  // 2 · 1 · √(400 + 400²/100) = 2 · √2000 = 89.44 s.
  const { seconds } = timeLeft({
    stepsLeft: 400,
    totalSteps: 500,
    pace: { steps: 100, meanSeconds: 2, deviationSeconds: 1 },
    planned,
  });
  expect(seconds?.low).toBeCloseTo(710.56, 2);
  expect(seconds?.high).toBeCloseTo(889.44, 2);
});

test("with fewer than five measured steps the plan's time counts, in the share of the steps left", () => {
  const pace = { steps: 4, meanSeconds: 2, deviationSeconds: 1 };
  expect(timeLeft({ stepsLeft: 250, totalSteps: 1000, pace, planned })).toEqual({
    seconds: { low: 200, expected: 250, high: 375 },
    basis: "by its plan for the 250 of 1,000 steps that are left",
  });
});

test("without a pace and a planned time nothing is said", () => {
  expect(timeLeft({ stepsLeft: 10, totalSteps: 10, pace: null, planned: null })).toEqual({
    seconds: null,
    basis: "its plan says no time and no pace is measured yet",
  });
});

test("a last evaluation takes between nothing and a tenth of the training", () => {
  expect(evaluationLeft(600).seconds).toEqual({ low: 0, expected: 30, high: 60 });
});
