import { InvalidError } from "@drydock/kit";
import type { EvaluationRequest, EvaluationSpec, EvaluationSuiteSpec } from "@drydock/spec";

/** What a body of `POST /v1/evaluations` asks for. */
export type WantedEvaluation =
  | { readonly kind: "evaluation"; readonly spec: EvaluationSpec }
  | { readonly kind: "suite"; readonly spec: EvaluationSuiteSpec };

/**
 * One evaluation or a suite: `models` or `datasets` make a suite.
 *
 * @throws InvalidError `both_given` for `model` beside `models` (or `dataset` beside `datasets`), `none_given` for neither, and
 * `name_without_suite`
 */
export function readRequest({
  name,
  model,
  models,
  dataset,
  datasets,
  ...questions
}: EvaluationRequest): WantedEvaluation {
  const allModels = oneOrMany("model", model, models, '"qwen3-vl-2b" or "weld@3"');
  const allDatasets = oneOrMany("dataset", dataset, datasets, '"weld@3"');
  if (model !== undefined && dataset !== undefined) {
    if (name !== undefined)
      throw refusal("name", "name_without_suite", "only suites have a name: leave it out, or give models or datasets");
    return { kind: "evaluation", spec: { model, dataset, ...questions } };
  }
  return {
    kind: "suite",
    spec: { name: name ?? "suite", models: allModels, datasets: allDatasets, ...questions },
  };
}

function oneOrMany<Reference>(
  field: string,
  one: Reference | undefined,
  many: Reference[] | undefined,
  example: string,
): Reference[] {
  if (one !== undefined && many !== undefined)
    throw refusal(`${field}s`, "both_given", `give either ${field} or ${field}s, not both`);
  if (many !== undefined) return many;
  if (one !== undefined) return [one];
  throw refusal(field, "none_given", `give ${field}, e.g. ${example}, or a list of them as ${field}s`);
}

function refusal(path: string, code: string, message: string): InvalidError {
  return new InvalidError(code, message, { details: [{ path, code, message }] });
}
