import { isDeepStrictEqual } from "node:util";
import type { PairedComparison } from "@drydock/spec";
import type { PreparedMetric } from "../metrics/prepared-metric.ts";
import { metricOf } from "../metrics/score-samples.ts";
import type { ScoredSample } from "../metrics/scored-sample.ts";
import { bootstrap, intervalOf, resamplesFor } from "./bootstrap.ts";
import { pairSamples, type IdentifiedSample, type PairedSamples } from "./paired-samples.ts";
import { SeededRandom } from "./random.ts";
import { defaultSeed } from "./score-with-details.ts";
import { asCountedIn, isInSlice, resolveSlice, sliceNamesOf } from "./slices.ts";

export interface ComparisonOptions {
  readonly metric: string;
  /** `tag:night`, `class:dog`, `size:small`, or the part after the colon where it is clear; absent = all rows. */
  readonly slice?: string | undefined;
  /** The level that the p-value will be held against: there are so many permutations that it can be reached. */
  readonly significance?: number | undefined;
  readonly seed?: number | undefined;
  /** Of the bootstrap and of the permutation test, see `resamplesFor`. */
  readonly resamples?: number | undefined;
}

/** Exact tests are made of up to so many rows whose answers differ: 2¹⁰ ways to swap them. */
const mostRowsSwappedExactly = 10;

/**
 * Compares two models on the rows that both answered, matched by `rowId`. `difference` is a − b on those rows; its interval is
 * that of the paired bootstrap (the same rows are drawn for both), the p-value that of a two-sided permutation test, which
 * swaps the two answers of a row at random. For a share of right answers that is McNemar's test; with at most ten rows
 * that differ it is exact.
 *
 * @throws InvalidError `unknown_metric`, `no_common_rows`, `unknown_slice`, `ambiguous_slice`
 */
export function compareEvaluations<Sample extends IdentifiedSample>(
  samplesA: readonly Sample[],
  samplesB: readonly Sample[],
  options: ComparisonOptions,
): PairedComparison {
  metricOf(options.metric);
  return comparePaired(pairSamples(samplesA, samplesB), options);
}

/** As {@link compareEvaluations}, for rows that are matched already. */
export function comparePaired<Sample extends IdentifiedSample>(
  pairs: PairedSamples<Sample>,
  { metric, slice, significance = 1, seed = defaultSeed, resamples }: ComparisonOptions,
): PairedComparison {
  const name = slice === undefined ? null : resolveSlice(slicesOfPairs(pairs), slice);
  const { a, b } = name === null ? pairs : sliceOfPairs(pairs, name);
  const rows = a.length;
  // Rows 0 to n − 1 are a's, the next n are b's: choosing and swapping is then a matter of row numbers.
  const both = metricOf(metric)([...a, ...b]);
  const scoreA = (chosen: Int32Array): number => both.scoreOf(chosen);
  const scoreB = (chosen: Int32Array): number => both.scoreOf(chosen.map((row) => row + rows));
  const all = Int32Array.from({ length: rows }, (_, index) => index);
  const [ofA, ofB] = [scoreA(all), scoreB(all)];
  const count = resamplesFor(metric, rows, resamples);
  const permutations = Math.max(count, Math.ceil(1 / significance));
  return {
    metric,
    slice: name,
    rows,
    a: ofA,
    b: ofB,
    difference: ofA - ofB,
    interval: intervalOf(bootstrap(rows, count, seed, (chosen) => scoreA(chosen) - scoreB(chosen))),
    pValue: permutationTest(both, differingRows(a, b), rows, permutations, seed),
  };
}

/** Names of the slices that either side has. */
export function slicesOfPairs(pairs: PairedSamples<IdentifiedSample>): readonly string[] {
  return sliceNamesOf([...pairs.a, ...pairs.b]).names;
}

/** The pairs of a slice, by its full name: those that either side puts into it, as they count there. */
export function sliceOfPairs<Sample extends IdentifiedSample>(
  { a, b }: PairedSamples<Sample>,
  name: string,
): { a: readonly Sample[]; b: readonly Sample[] } {
  const rows = [...a.keys()].filter((row) => [a[row], b[row]].some((sample) => sample && isInSlice(sample, name)));
  const counted = (samples: readonly Sample[]): Sample[] =>
    rows.flatMap((row) => {
      const sample = samples[row];
      return sample ? [asCountedIn(sample, name)] : [];
    });
  return { a: counted(a), b: counted(b) };
}

/** Rows whose two answers differ; to swap the others changes nothing. */
function differingRows(a: readonly ScoredSample[], b: readonly ScoredSample[]): number[] {
  return [...a.keys()].filter((row) => {
    const [first, second] = [a[row], b[row]];
    return (
      first?.answer !== second?.answer || !isDeepStrictEqual(first?.answeredGroundings, second?.answeredGroundings)
    );
  });
}

function permutationTest(
  both: PreparedMetric,
  differing: readonly number[],
  rows: number,
  permutations: number,
  seed: number,
): number {
  const first = Int32Array.from({ length: rows }, (_, index) => index);
  const second = first.map((row) => row + rows);
  const difference = (): number => both.scoreOf(first) - both.scoreOf(second);
  const observed = Math.abs(difference());
  // Sums in another order differ in their last digits: what is that near counts as equal.
  const isAsLarge = (value: number): boolean => Math.abs(value) >= observed - 1e-9 * Math.max(1, observed);
  const assignRow = (row: number, isSwapped: boolean): void => {
    first[row] = isSwapped ? row + rows : row;
    second[row] = isSwapped ? row : row + rows;
  };
  if (differing.length <= mostRowsSwappedExactly) {
    const ways = 2 ** differing.length;
    let asLarge = 0;
    for (let way = 0; way < ways; way++) {
      for (const [place, row] of differing.entries()) assignRow(row, ((way >> place) & 1) === 1);
      if (isAsLarge(difference())) asLarge++;
    }
    return asLarge / ways;
  }
  const random = new SeededRandom(seed ^ 0x5eed);
  let asLarge = 0;
  for (let index = 0; index < permutations; index++) {
    for (const row of differing) assignRow(row, random.nextUint32() >= 2 ** 31);
    if (isAsLarge(difference())) asLarge++;
  }
  // The observed order is one of the possible ones, so that p is never 0.
  return (asLarge + 1) / (permutations + 1);
}
