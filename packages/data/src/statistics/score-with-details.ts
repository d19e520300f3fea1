import type { EvaluationDetails, EvaluationSlice, ScoreIntervals, Scores, Task } from "@drydock/spec";
import { everyRow } from "../metrics/prepared-metric.ts";
import { metricOf, scoreSamples, type Scored } from "../metrics/score-samples.ts";
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
  return { ...scoreSamples(task, metrics, samples), details: detailsOf(metrics, samples, options) };
}

/** The details alone, see {@link scoreWithDetails}. @throws InvalidError `unknown_metric` */
export function detailsOf(
  metrics: readonly string[],
  samples: readonly SlicedSample[],
  options: DetailOptions = {},
): EvaluationDetails {
  const { seed = defaultSeed } = options;
  const { names, leftOut } = sliceNamesOf(samples);
  const slices = names.map((name): EvaluationSlice => {
    const own = samples.filter((sample) => isInSlice(sample, name)).map((sample) => asCountedIn(sample, name));
    const { scores, intervals } = score(metrics, own, options);
    return { name, count: own.length, scores, intervals };
  });
  const resamples = Object.fromEntries(
    metrics.map((name) => [name, resamplesFor(name, samples.length, options.resamples)]),
  );
  const { intervals } = score(metrics, samples, options);
  return { intervals, slices, slicesLeftOut: leftOut, resamples, seed };
}

interface Part {
  readonly scores: Scores;
  readonly intervals: ScoreIntervals;
}

function score(metrics: readonly string[], samples: readonly ScoredSample[], options: DetailOptions): Part {
  const scores: Record<string, number> = {};
  const intervals: ScoreIntervals = {};
  for (const name of metrics) {
    const metric = metricOf(name)(samples);
    scores[name] = samples.length === 0 ? 0 : metric.scoreOf(everyRow(samples.length));
    if (samples.length < 2) continue;
    const resamples = resamplesFor(name, samples.length, options.resamples);
    intervals[name] = intervalOf(bootstrap(samples.length, resamples, options.seed ?? defaultSeed, metric.scoreOf));
  }
  return { scores, intervals };
}
