import { checkMetrics } from "@drydock/data";
import { UnprocessableError, newId } from "@drydock/kit";
import { temporalNames, type Evaluation, type EvaluationInput, type EvaluationSpec } from "@drydock/spec";
import { holdModel } from "../registry/change-model.ts";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { EvaluationStore } from "../store/evaluation-store.ts";
import { enqueue } from "../workflows/outbox.ts";

/** An evaluation that may be written: its model is there, and both references have their numbers. */
export interface PreparedEvaluation {
  readonly spec: EvaluationSpec;
  readonly datasetId: string;
  readonly datasetVersion: number;
}

/**
 * Checks what an evaluation names, and writes numbers for aliases and newest versions.
 *
 * @throws InvalidError `unknown_metric`
 * @throws NotFoundError for a model or a data set that is not there
 * @throws ConflictError `dataset_not_ready`
 * @throws UnprocessableError `no_validation_rows`, `too_many_shards`
 */
export async function prepareEvaluation(
  { modelDirectory, datasets }: Pick<Services, "modelDirectory" | "datasets">,
  spec: EvaluationSpec,
): Promise<PreparedEvaluation> {
  checkMetrics(spec.task, spec.metrics ?? [], "metrics");
  const model = await modelDirectory.requireModel(spec.model);
  const { datasetId, versionId, version } = await datasets.resolve(spec.dataset);
  const dataset = `${spec.dataset.split("@")[0]}@${version}`;
  const rows = (await datasets.statisticsOf(versionId))?.validationRows;
  if (rows === 0) {
    const message = `${dataset} has no rows in its validation split, so there is nothing to score: import it again with a larger validationShare`;
    throw new UnprocessableError("no_validation_rows", message, {
      details: [{ path: "dataset", code: "no_validation_rows", message }],
    });
  }
  if (rows !== undefined) refuseEmptyShards(spec, dataset, rows);
  return {
    spec: { ...spec, model, dataset },
    datasetId,
    datasetVersion: version,
  };
}

function refuseEmptyShards({ shards = 1, maxSamples }: EvaluationSpec, dataset: string, rows: number): void {
  const most = Math.min(rows, maxSamples ?? rows);
  if (shards <= most) return;
  const message = `${shards} shards are more than the ${most} rows of ${dataset} that are scored: use at most ${most}`;
  throw new UnprocessableError("too_many_shards", message, {
    details: [{ path: "shards", code: "too_many_shards", message }],
  });
}

/** Writes an evaluation and the call that starts its workflow, in the caller's transaction. The workflow's id is the evaluation's. */
export async function submitEvaluation(
  tx: Database,
  { spec, datasetId, datasetVersion }: PreparedEvaluation,
  suiteId: string | null = null,
): Promise<Evaluation> {
  await holdModel(tx, spec.model);
  const answer = await new EvaluationStore(tx).insert(newId("evaluation"), spec, suiteId);
  const input: EvaluationInput = { evaluationId: answer.id, spec, datasetId, datasetVersion };
  await enqueue(tx, { kind: "start", workflowId: answer.id, name: temporalNames.evaluationRun, input });
  return answer;
}
