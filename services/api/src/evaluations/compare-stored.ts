import { checkMetric, defaultMetrics } from "@drydock/data";
import { InvalidError } from "@drydock/kit";
import type { Evaluation, EvaluationComparison } from "@drydock/spec";
import type { Services } from "../services.ts";
import { modelText } from "./model-text.ts";
import { readAllSamples } from "./read-all-samples.ts";

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
  { storage, statistics }: Pick<Services, "storage" | "statistics">,
  a: Evaluation,
  b: Evaluation,
  question: ComparisonQuestion,
): Promise<EvaluationComparison> {
  refuseUnlike(a, b);
  const { task } = a.spec;
  const metric = question.metric ?? a.spec.metrics?.[0] ?? defaultMetrics[task][0] ?? "exact-match";
  checkMetric(task, metric, "metric");
  const rows = { a: await readAllSamples(storage, a), b: await readAllSamples(storage, b) };
  const compared = await statistics.compare({ ...rows, metric, slice: question.slice ?? null });
  return { a: sideOf(a), b: sideOf(b), ...compared };
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
