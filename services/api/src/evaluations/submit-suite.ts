import { InvalidError, newId } from "@drydock/kit";
import type { EvaluationSuite, EvaluationSuiteSpec } from "@drydock/spec";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { SuiteStore } from "../store/suite-store.ts";
import { modelText } from "./model-text.ts";
import { prepareEvaluation, submitEvaluation, type PreparedEvaluation } from "./submit-evaluation.ts";

/** A suite that may be written: every model and data set is there, and no pair comes twice. */
export interface PreparedSuite {
  readonly spec: EvaluationSuiteSpec;
  readonly pairs: readonly PreparedEvaluation[];
}

/**
 * Checks every model and every data set once, and writes numbers for aliases and newest versions.
 *
 * @throws as {@link prepareEvaluation}; InvalidError `duplicate_model`, `duplicate_dataset`
 */
export async function prepareSuite(
  services: Pick<Services, "modelDirectory" | "datasets">,
  spec: EvaluationSuiteSpec,
): Promise<PreparedSuite> {
  const { name: _name, models, datasets, ...questions } = spec;
  const first = { model: models[0]!, dataset: datasets[0]! };
  const prepare = async (pair: Partial<typeof first>): Promise<PreparedEvaluation> =>
    await prepareEvaluation(services, { ...questions, ...first, ...pair });
  const byModel: PreparedEvaluation[] = [];
  for (const model of models) byModel.push(await prepare({ model }));
  const byDataset: PreparedEvaluation[] = [];
  for (const dataset of datasets) byDataset.push(await prepare({ dataset }));
  const resolvedModels = byModel.map((prepared) => prepared.spec.model);
  const resolvedDatasets = byDataset.map((prepared) => prepared.spec.dataset);
  refuseDuplicates("model", resolvedModels.map(modelText));
  refuseDuplicates("dataset", resolvedDatasets);
  const pairs = resolvedModels.flatMap((model) =>
    byDataset.map((prepared) => ({ ...prepared, spec: { ...prepared.spec, model } })),
  );
  return { spec: { ...spec, models: resolvedModels, datasets: resolvedDatasets }, pairs };
}

function refuseDuplicates(field: "model" | "dataset", references: readonly string[]): void {
  for (const [index, reference] of references.entries()) {
    const earlier = references.indexOf(reference);
    if (earlier === index) continue;
    const [path, code] = [`${field}s.${index}`, `duplicate_${field}`];
    const message = `${field}s names ${reference} twice, at places ${earlier + 1} and ${index + 1}: name each once`;
    throw new InvalidError(code, message, { details: [{ path, code, message }] });
  }
}

/** Writes a suite, its evaluations and the calls that start their workflows, in the caller's transaction. */
export async function submitSuite(tx: Database, { spec, pairs }: PreparedSuite): Promise<EvaluationSuite> {
  const id = newId("suite");
  const suites = new SuiteStore(tx);
  await suites.insert(id, spec);
  for (const pair of pairs) await submitEvaluation(tx, pair, id);
  return await suites.get(id);
}
