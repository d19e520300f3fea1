import type { Run } from "@drydock/spec";
import { expect, test } from "vitest";
import { describeProgress, describeTimeLeft } from "./watch-runs.ts";

function runIn(state: Run["state"]): Run {
  const progress = { step: 48, totalSteps: 150, epoch: 1, loss: 9.05, tokensPerSecond: 2000, remainingSeconds: 75 };
  return { name: "weld", state, progress, waiting: null } as Run;
}

test.each<[Run["state"], string | null]>([
  ["running", "1m 15s"],
  ["pausing", "1m 15s"],
  ["queued", null],
  ["paused", null],
  ["cancelled", null],
  ["failed", null],
])("a run that is %s says %s of the time left", (state, left) => {
  expect(describeTimeLeft(runIn(state))).toBe(left);
  expect(describeProgress(runIn(state), 4).includes("left")).toBe(left !== null);
});

test("a run that waits for room says what it waits for", () => {
  const sentence = 'needs 8 × NVIDIA H100 80 GB; 5 free; 2 runs ahead in queue "default"';
  const waiting = { since: "", sentence, ahead: [], aheadTotal: 2, estimate: { startsAt: null, basis: "" } };
  expect(describeProgress({ ...runIn("queued"), waiting }, 4)).toBe(`weld waits: ${sentence}`);
});
