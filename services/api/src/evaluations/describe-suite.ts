import { defaultMetrics } from "@drydock/data";
import type { Evaluation, EvaluationSuite, EvaluationSuiteSpec, SuiteCell, SuiteRank } from "@drydock/spec";
import { modelText } from "./model-text.ts";

/** What a suite says of its evaluations, which are in the order of models, then data sets. */
export function describeSuite(
  spec: EvaluationSuiteSpec,
  evaluations: readonly Evaluation[],
): Pick<EvaluationSuite, "state" | "message" | "headline" | "cells" | "ranking"> {
  const headline = spec.metrics?.[0] ?? defaultMetrics[spec.task][0] ?? "exact-match";
  const cells = evaluations.map(toCell);
  return { ...progressOf(evaluations), headline, cells, ranking: rank(cells, headline, spec.datasets.length) };
}

function toCell({ id, spec, state, message, samples, scores, details }: Evaluation): SuiteCell {
  return {
    model: modelText(spec.model),
    dataset: spec.dataset,
    evaluationId: id,
    state,
    message,
    samples,
    scores,
    intervals: details?.intervals ?? null,
  };
}

function progressOf(evaluations: readonly Evaluation[]): Pick<EvaluationSuite, "state" | "message"> {
  const count = (state: Evaluation["state"]): number =>
    evaluations.filter((evaluation) => evaluation.state === state).length;
  const [queued, running, failed, cancelled] = [count("queued"), count("running"), count("failed"), count("cancelled")];
  const over = evaluations.length - queued - running;
  const message = [
    `${over} of ${evaluations.length} evaluations are over`,
    ...(running > 0 ? [`${running} running`] : []),
    ...(queued > 0 ? [`${queued} waiting`] : []),
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(cancelled > 0 ? [`${cancelled} cancelled`] : []),
  ].join(", ");
  if (over === evaluations.length)
    return { state: failed > 0 ? "failed" : cancelled > 0 ? "cancelled" : "succeeded", message };
  return { state: queued === evaluations.length ? "queued" : "running", message };
}

/** Models with a headline score on every data set, best mean first; equal means share a place. */
function rank(cells: readonly SuiteCell[], headline: string, datasets: number): SuiteRank[] {
  const byModel = new Map<string, number[]>();
  for (const { model, scores } of cells) {
    const score = scores?.[headline];
    if (score !== undefined) byModel.set(model, [...(byModel.get(model) ?? []), score]);
  }
  const means = [...byModel]
    .filter(([, scores]) => scores.length === datasets)
    .map(([model, scores]) => ({ model, score: scores.reduce((sum, score) => sum + score, 0) / scores.length }))
    .sort((first, second) => second.score - first.score);
  return means.map(({ model, score }) => ({
    rank: means.findIndex((other) => other.score === score) + 1,
    model,
    score,
    datasets,
  }));
}
