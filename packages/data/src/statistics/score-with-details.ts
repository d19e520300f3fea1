import { setImmediate as nextTurn } from "node:timers/promises";
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
  const steps = detailSteps(metrics, samples, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/**
 * As {@link detailsOf}, for a process that has others to answer meanwhile: ten thousand rows take seconds, and they get their turn after
 * each metric of each slice.
 */
export async function detailsInTurns(
  metrics: readonly string[],
  samples: readonly SlicedSample[],
  options: DetailOptions = {},
): Promise<EvaluationDetails> {
  const steps = detailSteps(metrics, samples, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    await nextTurn();
  }
}

function* detailSteps(
  metrics: readonly string[],
  samples: readonly SlicedSample[],
  options: DetailOptions,
): Generator<void, EvaluationDetails> {
  const { seed = defaultSeed } = options;
  const { names, leftOut } = sliceNamesOf(samples);
  const { intervals } = yield* score(metrics, samples, options);
  const slices: EvaluationSlice[] = [];
  for (const name of names) {
    const own = samples.filter((sample) => isInSlice(sample, name)).map((sample) => asCountedIn(sample, name));
    slices.push({ name, count: own.length, ...(yield* score(metrics, own, options)) });
  }
  const resamples = Object.fromEntries(
    metrics.map((name) => [name, resamplesFor(name, samples.length, options.resamples)]),
  );
  return { intervals, slices, slicesLeftOut: leftOut, resamples, seed };
}

interface Part {
  readonly scores: Scores;
  readonly intervals: ScoreIntervals;
}

function* score(
  metrics: readonly string[],
  samples: readonly ScoredSample[],
  options: DetailOptions,
): Generator<void, Part> {
  const scores: Record<string, number> = {};
  const intervals: ScoreIntervals = {};
  for (const name of metrics) {
    yield;
    const metric = metricOf(name)(samples);
    scores[name] = samples.length === 0 ? 0 : metric.scoreOf(everyRow(samples.length));
    if (samples.length < 2) continue;
    const resamples = resamplesFor(name, samples.length, options.resamples);
    intervals[name] = intervalOf(bootstrap(samples.length, resamples, options.seed ?? defaultSeed, metric.scoreOf));
  }
  return { scores, intervals };
}
