/**
 * A metric with all the work on single rows done, so that the score of any choice of rows is cheap: what the bootstrap and
 * the permutation test need, and what one plain score is made with, too.
 */
export interface PreparedMetric {
  /** Each row's own score, in order. */
  readonly perSample: readonly number[];
  /** The score of these rows (indices; one may come several times). At least one. */
  readonly scoreOf: (rows: Int32Array) => number;
}

/** Rows 0 to `count` − 1. */
export function everyRow(count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, index) => index);
}

/** A metric that is the mean of the rows' own scores. */
export function meanMetric(perSample: readonly number[]): PreparedMetric {
  const values = Float64Array.from(perSample);
  return { perSample, scoreOf: (rows) => meanAt(values, rows) };
}

/** Mean of the values of these rows. */
export function meanAt(values: Float64Array, rows: Int32Array): number {
  let sum = 0;
  for (const row of rows) sum += values[row] ?? 0;
  return sum / Math.max(1, rows.length);
}

/** 0..1 as 0..100. */
export function inPercent({ perSample, scoreOf }: PreparedMetric): PreparedMetric {
  return { perSample: perSample.map((value) => value * 100), scoreOf: (rows) => scoreOf(rows) * 100 };
}
