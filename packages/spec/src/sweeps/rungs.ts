import type { SweepRung, SweepSearch } from "../contract/sweep.ts";

type Asha = Extract<SweepSearch, { kind: "asha" }>;

/** Steps at which trials are compared: minSteps·η^k below maxSteps. */
export function rungSteps({ minSteps, maxSteps, reductionFactor }: Asha): number[] {
  const steps: number[] = [];
  for (let step = minSteps; step < maxSteps; step *= reductionFactor) steps.push(step);
  return steps;
}

/** Why a trial ends at a rung. */
export interface Cut {
  readonly step: number;
  readonly score: number;
  /** What it would have had to reach. */
  readonly cutoff: number;
  /** Trials that have been seen at this rung, itself included. */
  readonly seen: number;
}

/**
 * The rung at which a trial falls out, or null: at each rung that it reached it must be among the best 1/η of all that were seen
 * there, and at least the best one stays. It is asked again when others arrive, so that an early one that nothing was compared with
 * falls out later.
 *
 * @param all  scores at rungs of all trials, this one included
 */
export function cutOf(
  search: Asha,
  goal: "max" | "min",
  own: readonly SweepRung[],
  all: readonly (readonly SweepRung[])[],
): Cut | null {
  const sign = goal === "max" ? 1 : -1;
  for (const step of rungSteps(search)) {
    const score = own.find((rung) => rung.step === step)?.score;
    if (score === undefined) continue;
    const seen = all
      .flatMap((rungs) => rungs.filter((rung) => rung.step === step))
      .map((rung) => rung.score)
      .toSorted((a, b) => sign * (b - a));
    const kept = Math.max(1, Math.floor(seen.length / search.reductionFactor));
    const cutoff = seen[kept - 1] as number;
    if (sign * score < sign * cutoff) return { step, score, cutoff, seen: seen.length };
  }
  return null;
}
