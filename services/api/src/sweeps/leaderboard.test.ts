import type { SweepTrial } from "@drydock/spec";
import { expect, test } from "vitest";
import { leaderboard } from "./leaderboard.ts";

function trial(number: number, state: SweepTrial["state"], score: number | null, rungSteps: number[] = []): SweepTrial {
  const rungs = rungSteps.map((step) => ({ step, score: score ?? 0 }));
  return { number, runId: `run_${number}`, state, message: "", parameters: {}, rungs, score, steps: 0, model: null };
}
const order = (trials: SweepTrial[], goal: "max" | "min"): number[] =>
  leaderboard(trials, goal).map(({ number }) => number);

test("a trial that was stopped on its way never stands before one that went all of it, whatever its score there", () => {
  const trials = [
    trial(1, "failed", null),
    trial(2, "stopped", 5.1678, [20, 60]),
    trial(3, "stopped", 5.1, [20]),
    trial(4, "succeeded", 5.1689, [20, 60]),
    trial(5, "succeeded", 5.2, [20, 60]),
    trial(6, "running", null),
    trial(7, "running", 5.3, [20, 60]),
  ];
  expect(order(trials, "min")).toEqual([4, 5, 2, 7, 3, 1, 6]);
  expect(order(trials, "max")).toEqual([5, 4, 7, 2, 3, 1, 6]);
});

test("equal scores stand in the order of their numbers", () => {
  expect(order([trial(2, "succeeded", 1), trial(1, "succeeded", 1)], "max")).toEqual([1, 2]);
});
