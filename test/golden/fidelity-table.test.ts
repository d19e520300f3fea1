import { expect, test } from "vitest";
import { fidelityTable } from "./fidelity-table.ts";

test("the worst of all shapes stands in the table, and a check that a family lacks stays empty", () => {
  const table = fidelityTable([
    { family: "b", shape: "one", check: "logits", difference: 2e-6 },
    { family: "b", shape: "two", check: "logits", difference: 0.00001234 },
    { family: "a", shape: "one", check: "greedy tokens that differ", difference: 0 },
  ]);
  expect(table.split("\n")).toEqual([
    "| family | shapes | logits | greedy tokens that differ |",
    "| --- | --- | --- | --- |",
    "| a | 1 |  | 0 |",
    "| b | 2 | 1.2e-5 |  |",
  ]);
});
