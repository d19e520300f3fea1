import { expect, test } from "vitest";
import { withSteps } from "./attempt-steps.ts";

const told = (attempt: number, ...steps: number[]): { step: number; attempt: number }[] =>
  steps.map((step) => ({ step, attempt }));

test.each([
  ["a damaged checkpoint: it goes on from an older one than was guessed", 44, 44, told(2, 41, 42), 40, 42],
  ["a checkpoint that nobody was told of: from a newer one", 10, 10, told(2, 21), 20, 21],
  ["steps of the attempt before it are not its own", 10, 10, told(1, 11, 12), 10, 10],
  ["told along with its own, they do not count", 10, 10, [...told(1, 11, 12), ...told(0, 13)], 12, 13],
  ["later steps leave its start alone", 40, 42, told(2, 43, 44), 40, 44],
  ["a report that comes twice takes nothing back", 40, 44, told(2, 43), 40, 44],
  ["a report without steps", 40, 44, [], 40, 44],
] as const)("%s", (_what, fromStep, lastStep, steps, from, last) => {
  expect(withSteps({ epoch: 2, fromStep, lastStep }, steps)).toEqual({ fromStep: from, lastStep: last });
});
