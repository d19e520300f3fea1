import type { EvaluationDetails, EvaluationSlice, ScoreIntervals, Scores, Task } from "@drydock/spec";
import { everyRow, type PreparedMetric } from "../metrics/prepared-metric.ts";
import { checkMetrics, metricOf, type Scored } from "../metrics/score-samples.ts";
import type { ScoredSample } from "../metrics/scored-sample.ts";
import { bootstrap, intervalOf, resamplesFor } from "./bootstrap.ts";
import { asCountedIn, isInSlice, sliceNamesOf, type SlicedSample } from "./slices.ts";

/** Seed of the resamples: fixed, so that the same answers always have the same intervals. */
export const defaultSeed = 42;

export interface DetailOptions {
  readonly seed?: number;
  /** Of each fast metric, see {@link resamplesFor}. */
  readonly resamples?: number;
}

export interface ScoredWithDetails extends Scored {
  readonly details: EvaluationDetails;
}

/**
 * Scores answers as `scoreSamples` does, with a confidence interval for each metric and the scores of slices by tag, class
 * and picture size. Evaluations in workers and samples reported by applications are scored with this one function.
 *
 * Intervals are percentile bootstrap intervals over rows; corpus metrics are computed anew in each resample. Fewer than two
 * rows have none.
 *
 * @throws InvalidError `unknown_metric`
 */
export function scoreWithDetails(
  task: Task,
  metrics: readonly string[],
  samples: readonly SlicedSample[],
  options: DetailOptions = {},
): ScoredWithDetails {
  checkMetrics(task, metrics);
  const { seed = defaultSeed } = options;
  const { names, leftOut } = sliceNamesOf(samples);
  const whole = score(metrics, samples, options);
  const perSample = samples.map(
    (_, index): Scores =>
      Object.fromEntries(metrics.map((name) => [name, whole.prepared[name]?.perSample[index] ?? 0])),
  );
  const slices = names.map((name): EvaluationSlice => {
    const own = samples.filter((sample) => isInSlice(sample, name)).map((sample) => asCountedIn(sample, name));
    const { scores, intervals } = score(metrics, own, options);
    return { name, count: own.length, scores, intervals };
  });
  const resamples = Object.fromEntries(
    metrics.map((name) => [name, resamplesFor(name, samples.length, options.resamples)]),
  );
  const details = { intervals: whole.intervals, slices, slicesLeftOut: leftOut, resamples, seed };
  return { scores: whole.scores, perSample, details };
}

interface Part {
  readonly scores: Scores;
  readonly intervals: ScoreIntervals;
  readonly prepared: Readonly<Record<string, PreparedMetric>>;
}

function score(metrics: readonly string[], samples: readonly ScoredSample[], options: DetailOptions): Part {
  const scores: Record<string, number> = {};
  const intervals: ScoreIntervals = {};
  const prepared: Record<string, PreparedMetric> = {};
  for (const name of metrics) {
    const metric = metricOf(name)(samples);
    prepared[name] = metric;
    scores[name] = samples.length === 0 ? 0 : metric.scoreOf(everyRow(samples.length));
    if (samples.length < 2) continue;
    const resamples = resamplesFor(name, samples.length, options.resamples);
    intervals[name] = intervalOf(bootstrap(samples.length, resamples, options.seed ?? defaultSeed, metric.scoreOf));
  }
  return { scores, intervals, prepared };
}
