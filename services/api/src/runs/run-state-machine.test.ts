import { RunState, terminalRunStates } from "@drydock/spec";
import { expect, test } from "vitest";
import { canTransition, isPausable, isTerminal, runTransitions } from "./run-state-machine.ts";

const states = RunState.options;

test("the happy path of the design is allowed, step by step", () => {
  const path: RunState[] = ["validating", "queued", "scheduling", "running", "evaluating", "succeeded"];
  for (const [index, from] of path.slice(0, -1).entries()) expect(canTransition(from, path[index + 1]!)).toBe(true);
});

test("pausing leads to paused and paused to queued", () => {
  expect(canTransition("running", "pausing")).toBe(true);
  expect(canTransition("pausing", "paused")).toBe(true);
  expect(canTransition("paused", "queued")).toBe(true);
  expect(canTransition("paused", "running")).toBe(false);
});

test.each(terminalRunStates)("%s is never left, not even for itself", (state) => {
  expect(isTerminal(state)).toBe(true);
  expect(states.filter((to) => canTransition(state, to))).toEqual([]);
});

test("every state that is not over can be cancelled and can fail", () => {
  for (const state of states.filter((each) => !isTerminal(each))) {
    expect(runTransitions[state]).toContain("cancelled");
    expect(runTransitions[state]).toContain("failed");
  }
});

test("every state can be reached from validating", () => {
  const reached = new Set<RunState>(["validating"]);
  for (const state of reached) for (const next of runTransitions[state]) reached.add(next);
  expect([...reached].sort()).toEqual([...states].sort());
});

test("what is paused, pausing or over cannot be paused", () => {
  expect(states.filter((state) => !isPausable(state)).sort()).toEqual([
    "cancelled",
    "failed",
    "paused",
    "pausing",
    "succeeded",
  ]);
});
