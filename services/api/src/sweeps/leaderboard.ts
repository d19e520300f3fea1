import type { SweepTrial } from "@drydock/spec";

/**
 * Best first. Scores compare only after as many steps: trials that went all the way stand before those that were stopped on it or are
 * still running, and these stand by the last rung that they reached; those without a score come last, by number.
 */
export function leaderboard(trials: readonly SweepTrial[], goal: "max" | "min"): SweepTrial[] {
  const sign = goal === "max" ? 1 : -1;
  const keys = ({ state, score, rungs }: SweepTrial): [number, number] => {
    if (score === null) return [-1, 0];
    return [state === "succeeded" ? Number.POSITIVE_INFINITY : (rungs.at(-1)?.step ?? 0), sign * score];
  };
  return trials.toSorted((a, b) => {
    const [stepsA, scoreA] = keys(a);
    const [stepsB, scoreB] = keys(b);
    if (stepsA !== stepsB) return stepsB > stepsA ? 1 : -1;
    return scoreB - scoreA || a.number - b.number;
  });
}
