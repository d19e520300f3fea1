import type { ScoreInterval } from "@drydock/spec";
import { SeededRandom } from "./random.ts";

export const confidenceLevel = 0.95;

/** Metrics whose score costs more than a sum over rows: the frequencies of n-grams, or the ranking of boxes, are made anew. */
const slowMetrics: ReadonlySet<string> = new Set(["cider-d", "map", "map@0.5"]);

const wantedResamples = { fast: 1000, slow: 200 } as const;
const fewestResamples = { fast: 200, slow: 100 } as const;
/** Rows times resamples: about a second of work for one metric. */
const rowBudget = { fast: 10_000_000, slow: 1_000_000 } as const;

/**
 * How many resamples a metric gets: 1000, and 200 for those that cost much per resample (`cider-d`, `map`), where the ends of
 * an interval are then known to about a tenth of its width instead of a twentieth. Fewer for very many rows, whose intervals
 * are narrow anyway, down to 200 and 100.
 */
export function resamplesFor(metric: string, rows: number, wanted?: number): number {
  const pace = slowMetrics.has(metric) ? "slow" : "fast";
  const most = Math.max(1, wanted ?? wantedResamples[pace]);
  const affordable = Math.max(fewestResamples[pace], Math.floor(rowBudget[pace] / Math.max(1, rows)));
  return Math.min(most, pace === "slow" ? Math.min(wantedResamples.slow, affordable) : affordable);
}

/**
 * Scores of resamples of rows with replacement, each as large as the original. Rows of a resample stay in their order, since
 * `map` depends on it.
 *
 * @param scoreOf  the score of a choice of rows
 */
export function bootstrap(
  rows: number,
  resamples: number,
  seed: number,
  scoreOf: (rows: Int32Array) => number,
): Float64Array {
  const random = new SeededRandom(seed);
  const times = new Int32Array(rows);
  const drawn = new Int32Array(rows);
  return Float64Array.from({ length: resamples }, () => {
    times.fill(0);
    for (let index = 0; index < rows; index++) {
      const row = random.below(rows);
      times[row] = (times[row] ?? 0) + 1;
    }
    writeInOrder(times, drawn);
    return scoreOf(drawn);
  });
}

/** Each row as often as it was drawn, in order: cheaper than sorting. */
function writeInOrder(times: Int32Array, drawn: Int32Array): void {
  let place = 0;
  for (let row = 0; row < times.length; row++) {
    const end = place + (times[row] ?? 0);
    drawn.fill(row, place, end);
    place = end;
  }
}

/** The middle `level` of some scores. */
export function intervalOf(scores: Float64Array, level: number = confidenceLevel): ScoreInterval {
  const sorted = scores.toSorted();
  const tail = (1 - level) / 2;
  return { low: quantile(sorted, tail), high: quantile(sorted, 1 - tail), level };
}

/** Quantile of sorted values, linear between neighbours as numpy's default. NaN without values. */
export function quantile(sorted: Float64Array, share: number): number {
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const [low, high] = [sorted[below] ?? Number.NaN, sorted[Math.ceil(place)] ?? Number.NaN];
  return low + (high - low) * (place - below);
}
