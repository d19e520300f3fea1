import { setImmediate as nextTurn } from "node:timers/promises";
import {
  checkMetrics,
  comparePaired,
  defaultMetrics,
  metricOf,
  pairSamples,
  resolveSlice,
  sliceOfPairs,
  slicesOfPairs,
  type PairedSamples,
} from "@drydock/data";
import { InvalidError, type ObjectStorage } from "@drydock/kit";
import type { ChangedRow, Evaluation, EvaluationComparison, PairedComparison, SampleResult } from "@drydock/spec";
import { modelText } from "./model-text.ts";
import { readAllSamples } from "./read-all-samples.ts";

/** Rows shown of those that changed, of each kind. */
const mostChanged = 100;

/** Points by which two scores of a row must differ to count as changed. */
const smallestChange = 1e-6;

export interface ComparisonQuestion {
  /** Default: the headline of `a`. */
  readonly metric?: string | undefined;
  /** Only this one; default: all rows, and each slice beside them. */
  readonly slice?: string | undefined;
}

/**
 * Compares two evaluations row by row.
 *
 * @throws InvalidError `different_tasks`, `different_datasets`, `no_common_rows`, `unknown_metric`, `unknown_slice`, `ambiguous_slice`
 * @throws ConflictError `evaluation_not_finished`, `no_rows_kept`
 */
export async function compareStored(
  storage: ObjectStorage,
  a: Evaluation,
  b: Evaluation,
  question: ComparisonQuestion,
): Promise<EvaluationComparison> {
  refuseUnlike(a, b);
  const { task } = a.spec;
  const metric = question.metric ?? a.spec.metrics?.[0] ?? defaultMetrics[task][0] ?? "exact-match";
  checkMetrics(task, [metric], "metric");
  const pairs = pairSamples(await readAllSamples(storage, a), await readAllSamples(storage, b));
  const known = slicesOfPairs(pairs);
  const wanted = question.slice === undefined ? null : resolveSlice(known, question.slice);
  const overall = comparePaired(pairs, { metric });
  const slices: PairedComparison[] = [];
  for (const slice of wanted === null ? known : [wanted]) {
    // Each takes up to a second for very many rows: other requests go in between.
    await nextTurn();
    slices.push(comparePaired(pairs, { metric, slice }));
  }
  const { won, lost } = changedRows(wanted === null ? pairs : sliceOfPairs(pairs, wanted), metric);
  return {
    a: sideOf(a),
    b: sideOf(b),
    overall,
    slices,
    onlyInA: pairs.onlyInA,
    onlyInB: pairs.onlyInB,
    wonCount: won.length,
    lostCount: lost.length,
    won: won.slice(0, mostChanged),
    lost: lost.slice(0, mostChanged),
  };
}

function sideOf({ id, spec }: Evaluation): EvaluationComparison["a"] {
  return { evaluationId: id, model: modelText(spec.model), dataset: spec.dataset };
}

function refuseUnlike(a: Evaluation, b: Evaluation): void {
  const names = [a, b].map(({ spec }) => spec.dataset.split("@")[0]);
  if (names[0] !== names[1])
    throw refusal(
      "different_datasets",
      `${a.id} is of data set ${names[0]}, ${b.id} of ${names[1]}: compare evaluations of the same data set`,
    );
  if (a.spec.task !== b.spec.task)
    throw refusal(
      "different_tasks",
      `${a.id} has task ${a.spec.task}, ${b.id} ${b.spec.task}: compare evaluations of the same task`,
    );
}

function refusal(code: string, message: string): InvalidError {
  return new InvalidError(code, message, { details: [{ path: "b", code, message }] });
}

/** Rows where `a` scores higher (won) or lower (lost) by their own score, the largest change first. */
function changedRows(
  { a, b }: Pick<PairedSamples<SampleResult>, "a" | "b">,
  metric: string,
): { won: ChangedRow[]; lost: ChangedRow[] } {
  const prepare = metricOf(metric);
  const [scoresA, scoresB] = [prepare(a).perSample, prepare(b).perSample];
  const rows = a.map((sample, index): ChangedRow => ({
    rowId: sample.rowId,
    fileName: sample.fileName,
    prompt: sample.prompt,
    expected: sample.expected,
    answerA: sample.answer,
    answerB: b[index]?.answer ?? "",
    scoreA: scoresA[index] ?? 0,
    scoreB: scoresB[index] ?? 0,
  }));
  // BLEU keeps a part of 10⁻¹³ for words that do not match: what is that near counts as equal.
  const change = ({ scoreA, scoreB }: ChangedRow): number =>
    Math.abs(scoreA - scoreB) < smallestChange ? 0 : scoreA - scoreB;
  return {
    won: rows.filter((row) => change(row) > 0).sort((first, second) => change(second) - change(first)),
    lost: rows.filter((row) => change(row) < 0).sort((first, second) => change(first) - change(second)),
  };
}
