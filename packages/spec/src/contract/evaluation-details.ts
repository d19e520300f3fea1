import { z } from "zod";
import { Scores } from "./run.ts";

/** Where a score would lie in `level` of all equally large samples of rows: the percentile bootstrap over rows. */
export const ScoreInterval = z
  .object({ low: z.number(), high: z.number(), level: z.number() })
  .meta({ id: "ScoreInterval" });
export type ScoreInterval = z.infer<typeof ScoreInterval>;

/** One interval a metric; none where there are too few rows to say anything. */
export const ScoreIntervals = z.record(z.string(), ScoreInterval).meta({ id: "ScoreIntervals" });
export type ScoreIntervals = z.infer<typeof ScoreIntervals>;

/**
 * Scores of a part of the rows. Names are `tag:<tag>`, `class:<phrase>` (phrase grounding: only that phrase's boxes count)
 * and `size:small`, `size:medium`, `size:large` (pictures below 256², below 768², and larger, in pixels).
 */
export const EvaluationSlice = z
  .object({ name: z.string(), count: z.int().nonnegative(), scores: Scores, intervals: ScoreIntervals })
  .meta({ id: "EvaluationSlice" });
export type EvaluationSlice = z.infer<typeof EvaluationSlice>;

/** What scores alone do not say: how sure they are, and for which rows they hold. */
export const EvaluationDetails = z
  .object({
    intervals: ScoreIntervals,
    /** The most frequent of each kind. */
    slices: z.array(EvaluationSlice),
    /** Slices that were left out because there were too many. */
    slicesLeftOut: z.int().nonnegative(),
    /** Resamples behind each metric's interval. */
    resamples: z.record(z.string(), z.int()),
    seed: z.int(),
  })
  .meta({ id: "EvaluationDetails" });
export type EvaluationDetails = z.infer<typeof EvaluationDetails>;

/** Where the details of an evaluation lie: beside its results. */
export function detailsKeyOf(resultsKey: string): string {
  return `${resultsKey.replace(/\.jsonl$/, "")}.details.json`;
}

/** Two samples' scores on the same rows. `difference` is a − b: above 0, `a` is better. */
export const PairedComparison = z
  .object({
    metric: z.string(),
    /** Null for all rows. */
    slice: z.string().nullable(),
    /** Rows that both have. */
    rows: z.int().nonnegative(),
    a: z.number(),
    b: z.number(),
    difference: z.number(),
    interval: ScoreInterval,
    /** Two-sided, of the paired permutation test: how often chance alone gives a difference as large. */
    pValue: z.number(),
  })
  .meta({ id: "PairedComparison" });
export type PairedComparison = z.infer<typeof PairedComparison>;

/** A row whose own score differs between the two. */
export const ChangedRow = z
  .object({
    rowId: z.string(),
    fileName: z.string().nullable(),
    prompt: z.string(),
    expected: z.string(),
    answerA: z.string(),
    answerB: z.string(),
    scoreA: z.number(),
    scoreB: z.number(),
  })
  .meta({ id: "ChangedRow" });
export type ChangedRow = z.infer<typeof ChangedRow>;

/** Answer of `GET /v1/evaluations/compare`. */
export const EvaluationComparison = z
  .object({
    a: z.object({ evaluationId: z.string(), model: z.string(), dataset: z.string() }),
    b: z.object({ evaluationId: z.string(), model: z.string(), dataset: z.string() }),
    overall: PairedComparison,
    slices: z.array(PairedComparison),
    /** Rows that only one of the two has; they do not count. */
    onlyInA: z.int().nonnegative(),
    onlyInB: z.int().nonnegative(),
    /** Rows where `a` scores higher, and lower; the lists below hold the first 100 of each, largest change first. */
    wonCount: z.int().nonnegative(),
    lostCount: z.int().nonnegative(),
    won: z.array(ChangedRow),
    lost: z.array(ChangedRow),
  })
  .meta({ id: "EvaluationComparison" });
export type EvaluationComparison = z.infer<typeof EvaluationComparison>;
