import { terminalRunStates } from "../contract/run.ts";
import type { SweepAction, SweepFacts } from "../contract/sweep.ts";
import { cutOf } from "./rungs.ts";

type Trial = SweepFacts["trials"][number];

const pausable: readonly Trial["runState"][] = ["queued", "scheduling", "running", "evaluating"];

/** Everything that is to be done now; nothing when the sweep waits for its trials. */
export function decideSweep(facts: SweepFacts): SweepAction[] {
  const open = facts.trials.filter(isOpen);
  if (facts.state === "cancelling") {
    const stops = open
      .filter(({ decision }) => decision !== "stopped")
      .map((trial) => stop(trial, "the sweep was cancelled"));
    return stops.length > 0 || open.length > 0
      ? stops
      : [{ kind: "end", state: "cancelled", message: "cancelled; checkpoints are kept" }];
  }
  const isSpent = facts.budgetGpuHours !== null && facts.gpuHours >= facts.budgetGpuHours;
  if (isSpent) {
    const why = `the budget of ${facts.budgetGpuHours} GPU hours is spent`;
    const stops = open.filter(({ decision }) => decision !== "stopped").map((trial) => stop(trial, why));
    return stops.length > 0 || open.length > 0 ? stops : [endOf(facts, `${why}; `)];
  }
  if (facts.state === "paused")
    return open
      .filter(({ decision, runState }) => decision === "open" && pausable.includes(runState))
      .map(({ number }) => ({ kind: "hold", trial: number }));
  if (facts.state !== "running") return [];
  return whileRunning(facts, open);
}

function whileRunning(facts: SweepFacts, open: readonly Trial[]): SweepAction[] {
  const released = open
    .filter(({ decision, runState }) => decision === "held" && runState === "paused")
    .map(({ number }): SweepAction => ({ kind: "release", trial: number }));
  const stops = open.flatMap((trial) => cutStop(facts, trial));
  const cut = new Set(stops.map((action) => ("trial" in action ? action.trial : 0)));
  // One that was stopped holds its GPU until its run has ended.
  const busy = open.length;
  const room = Math.max(0, facts.maxParallel - busy);
  const next = facts.trials.length + 1;
  const starts = Array.from(
    { length: Math.max(0, Math.min(room, facts.planned - facts.trials.length)) },
    (_, index): SweepAction => ({
      kind: "start",
      trial: next + index,
    }),
  );
  const actions = [...released.filter((action) => "trial" in action && !cut.has(action.trial)), ...stops, ...starts];
  if (actions.length > 0 || open.length > 0 || facts.trials.length < facts.planned) return actions;
  return [endOf(facts, "")];
}

function cutStop({ search, goal, trials }: SweepFacts, trial: Trial): SweepAction[] {
  if (search.kind !== "asha" || trial.decision === "stopped") return [];
  const cut = cutOf(
    search,
    goal,
    trial.rungs,
    trials.map(({ rungs }) => rungs),
  );
  if (!cut) return [];
  const side = goal === "max" ? "below" : "above";
  return [
    stop(
      trial,
      `stopped at ${cut.step} steps: its score of ${shown(cut.score)} is ${side} ${shown(cut.cutoff)}, the best 1/${search.reductionFactor} of ${cut.seen} trials there`,
    ),
  ];
}

function endOf({ trials, goal }: SweepFacts, prefix: string): SweepAction {
  const best = bestOf(trials, goal);
  if (best)
    return {
      kind: "end",
      state: "succeeded",
      message: `${prefix}trial ${best.number} is the best of ${trials.length} with ${shown(best.finalScore as number)}`,
    };
  const failures = trials.filter(({ runState, runId }) => runState === "failed" || runId === null);
  const reasons = [...new Set(failures.map(({ message }) => message))].slice(0, 3).join("; ");
  return {
    kind: "end",
    state: "failed",
    message: `${prefix}no trial of ${trials.length} ended with a score${reasons === "" ? "" : `: ${reasons}`}`,
  };
}

/** The trial with the best score among those whose runs succeeded. */
export function bestOf<Each extends Pick<Trial, "runState" | "finalScore">>(
  trials: readonly Each[],
  goal: "max" | "min",
): Each | null {
  const sign = goal === "max" ? 1 : -1;
  const done = trials.filter(({ runState, finalScore }) => runState === "succeeded" && finalScore !== null);
  const [best] = done.toSorted((a, b) => sign * ((b.finalScore as number) - (a.finalScore as number)));
  return best ?? null;
}

function stop({ number }: Trial, message: string): SweepAction {
  return { kind: "stop", trial: number, message };
}

function isOpen({ runState, runId }: Trial): boolean {
  return runId !== null && runState !== null && !terminalRunStates.includes(runState);
}

function shown(score: number): string {
  return String(Number(score.toPrecision(4)));
}
