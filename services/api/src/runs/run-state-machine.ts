import { terminalRunStates, type RunState } from "@drydock/spec";

/**
 * Where a run may go from each state (design §5). A failed attempt goes back to `queued` or straight to `scheduling`;
 * a baseline evaluation goes on to `running`; a run that ends while it is being paused has ended.
 */
export const runTransitions: Readonly<Record<RunState, readonly RunState[]>> = {
  validating: ["queued", "scheduling", "pausing", "failed", "cancelled"],
  queued: ["scheduling", "pausing", "paused", "failed", "cancelled"],
  scheduling: ["running", "evaluating", "queued", "pausing", "failed", "cancelled"],
  running: ["evaluating", "succeeded", "queued", "scheduling", "pausing", "failed", "cancelled"],
  evaluating: ["running", "succeeded", "queued", "scheduling", "pausing", "failed", "cancelled"],
  pausing: ["paused", "succeeded", "failed", "cancelled"],
  paused: ["queued", "failed", "cancelled"],
  succeeded: [],
  failed: [],
  cancelled: [],
};

/** True for states that a run never leaves. */
export function isTerminal(state: RunState): boolean {
  return terminalRunStates.includes(state);
}

/** True when a run may go from one state to the other. Staying where it is (a new reason) is allowed until it has ended. */
export function canTransition(from: RunState, to: RunState): boolean {
  return from === to ? !isTerminal(from) : runTransitions[from].includes(to);
}

/** States from which a user may pause. */
export function isPausable(state: RunState): boolean {
  return state !== "pausing" && runTransitions[state].includes("pausing");
}
