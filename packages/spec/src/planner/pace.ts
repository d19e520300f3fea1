import type { Plan } from "../contract/plan.ts";
import { formatInteger, plural } from "./format.ts";

/** Seconds that something takes: at the least, as expected, at the most. */
export interface SecondsRange {
  readonly low: number;
  readonly expected: number;
  readonly high: number;
}

/** How fast the last steps of a run were. */
export interface Pace {
  readonly steps: number;
  readonly meanSeconds: number;
  /** Sample standard deviation of one step. */
  readonly deviationSeconds: number;
}

/** What is left of a run, and how that is known. `seconds` is null when nobody can say. */
export interface TimeLeft {
  readonly seconds: SecondsRange | null;
  readonly basis: string;
}

/** Fewer measured steps than this say less than the plan does. */
const leastMeasuredSteps = 5;
/** Checkpoints and evaluations between the steps are not in their pace: at least this share either way. */
const leastSpread = 0.05;
/** A last evaluation is assumed to take at most this share of the training. */
const evaluationShare = 0.1;

/**
 * Seconds until a run ends, from the steps it still has to take.
 *
 * With a pace m ± s measured over n steps, R further steps take R·m, and the sum of R draws spreads around it by
 * s·√(R + R²/n) (the prediction error of a sum: R draws, and the error of the mean carried R times). The range is two of
 * these either way, and never less than 5 %. With fewer than five measured steps the plan's time is taken, in the share of
 * the steps that are left.
 */
export function timeLeft(work: {
  readonly stepsLeft: number;
  readonly totalSteps: number;
  readonly pace: Pace | null;
  readonly planned: Plan["timeSeconds"];
}): TimeLeft {
  const { stepsLeft, totalSteps, pace, planned } = work;
  if (pace !== null && pace.steps >= leastMeasuredSteps) {
    const expected = stepsLeft * pace.meanSeconds;
    const error = 2 * pace.deviationSeconds * Math.sqrt(stepsLeft + stepsLeft ** 2 / pace.steps);
    const spread = Math.max(error, leastSpread * expected);
    return {
      seconds: { low: Math.max(0, expected - spread), expected, high: expected + spread },
      basis: `by its own pace, measured over ${plural(pace.steps, "step")}`,
    };
  }
  if (planned === null) return { seconds: null, basis: "its plan says no time and no pace is measured yet" };
  const share = totalSteps === 0 ? 1 : stepsLeft / totalSteps;
  return {
    seconds: { low: planned.low * share, expected: planned.expected * share, high: planned.high * share },
    basis:
      share === 1
        ? "by its plan; no pace is measured yet"
        : `by its plan for the ${formatInteger(stepsLeft)} of ${plural(totalSteps, "step")} that are left`,
  };
}

/** What is left of a run in its last evaluation: between nothing and a tenth of the time since it started. */
export function evaluationLeft(secondsSinceStart: number): TimeLeft {
  const high = evaluationShare * secondsSinceStart;
  return {
    seconds: { low: 0, expected: high / 2, high },
    basis: "in its last evaluation, assumed to take at most a tenth of its training",
  };
}
