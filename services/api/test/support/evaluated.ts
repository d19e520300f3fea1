import { scoreWithDetails } from "@drydock/data";
import { detailsKeyOf, type Evaluation, type EvaluationSpecInput, type SampleResult } from "@drydock/spec";
import type { TestApi } from "./api.ts";

/** A row that was answered, right or wrong. */
export function answered(rowId: string, answer: string, changes: Partial<SampleResult> = {}): SampleResult {
  return {
    rowId,
    imageKey: null,
    fileName: `${rowId}.png`,
    width: 100,
    height: 100,
    prompt: "How many?",
    expected: "two",
    answer,
    expectedGroundings: [],
    answeredGroundings: [],
    isParsable: true,
    scores: {},
    ...changes,
  };
}

/** Writes down what a worker and the controller leave of an evaluation: rows, scores, details. */
export async function finish(
  api: TestApi,
  { id, spec }: Pick<Evaluation, "id" | "spec">,
  samples: readonly SampleResult[],
): Promise<void> {
  const metrics = spec.metrics ?? ["exact-match"];
  const { scores, perSample, details } = scoreWithDetails(spec.task, metrics, samples);
  const resultsKey = `evaluations/${id}/results.jsonl`;
  const rows = samples.map((sample, index) => ({ ...sample, scores: perSample[index] ?? {} }));
  await api.storage.put(resultsKey, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  await api.storage.put(detailsKeyOf(resultsKey), JSON.stringify(details));
  await api.ok("PUT", `/internal/v1/evaluations/${id}`, {
    runId: null,
    phase: "standalone",
    step: null,
    state: "succeeded",
    message: "done",
    spec,
    scores,
    samples: samples.length,
    seconds: 2,
    resultsKey,
    details,
  });
}

/** An evaluation that is over, with these rows. */
export async function evaluated(
  api: TestApi,
  spec: EvaluationSpecInput,
  samples: readonly SampleResult[],
): Promise<Evaluation> {
  const made = await api.ok<Evaluation>("POST", "/v1/evaluations", spec);
  await finish(api, made, samples);
  return await api.ok("GET", `/v1/evaluations/${made.id}`);
}
