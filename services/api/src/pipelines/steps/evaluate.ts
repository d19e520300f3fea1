import { defaultMetrics } from "@drydock/data";
import { EvaluationSpec, parseModelReference, runOf, type PipelineStep } from "@drydock/spec";
import { modelText } from "../../evaluations/model-text.ts";
import { prepareEvaluation, submitEvaluation } from "../../evaluations/submit-evaluation.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";
import { metricsOfRules } from "./gate.ts";
import { datasetOf } from "./train.ts";

type Needed = Pick<Services, "modelDirectory" | "datasets" | "evaluations" | "models">;

/** The version in production, as `name@version`; null before the first. */
export async function productionOf({ models }: Pick<Services, "models">, name: string): Promise<string | null> {
  const model = await models.find(name, "production");
  return model === null ? null : `${model.name}@${model.version}`;
}

/** Scores the candidate and the version in production on the same rows. */
export async function evaluate(
  services: Needed,
  run: PipelineRunRow,
  step: Extract<PipelineStep, { type: "evaluate" }>,
): Promise<StepOutcome> {
  const { candidate = "", evaluations } = run.results;
  if (evaluations === undefined) return await startEvaluations(services, run, step, candidate);
  const ids = [evaluations.candidate, ...(evaluations.production === null ? [] : [evaluations.production])];
  const found = await Promise.all(ids.map(async (id) => await services.evaluations.get(id)));
  const failed = found.find(({ state }) => state === "failed" || state === "cancelled");
  if (failed) {
    const how = failed.state === "failed" ? "failed" : "was cancelled";
    return { kind: "end", state: "failed", message: `evaluation ${failed.id} ${how}: ${failed.message}` };
  }
  if (found.some(({ state }) => state !== "succeeded")) return { kind: "wait" };
  const scores = found.map((each) => `${modelText(each.spec.model)} ${describe(each.scores ?? {})}`);
  return { kind: "done", message: `on ${step.dataset ?? datasetOf(run)}: ${scores.join("; ")}` };
}

async function startEvaluations(
  services: Needed,
  run: PipelineRunRow,
  step: Extract<PipelineStep, { type: "evaluate" }>,
  candidate: string,
): Promise<StepOutcome> {
  const template = runOf(run.spec);
  const { type: _type, ...chosen } = step;
  const named =
    chosen.metrics ?? metricsOfRules(run.spec) ?? template.evaluation.metrics ?? defaultMetrics[template.task];
  // What is watched later falls from what it was here.
  const watched = run.spec.steps.flatMap((each) => (each.type === "watch" ? [each.metric] : []));
  const metrics = [...new Set([...named, ...watched])];
  const ask = async (model: string) =>
    await prepareEvaluation(
      services,
      EvaluationSpec.parse({
        maxNewTokens: template.evaluation.maxNewTokens,
        ...chosen,
        model,
        dataset: step.dataset ?? datasetOf(run),
        task: template.task,
        metrics,
      }),
    );
  const production = await productionOf(services, parseModelReference(candidate)?.name ?? "");
  const ofCandidate = await ask(candidate);
  const ofProduction = production === null || production === candidate ? null : await ask(production);
  return {
    kind: "start",
    write: async (tx) => ({
      production,
      evaluations: {
        candidate: (await submitEvaluation(tx, ofCandidate)).id,
        production: ofProduction === null ? null : (await submitEvaluation(tx, ofProduction)).id,
      },
    }),
  };
}

function describe(scores: Readonly<Record<string, number>>): string {
  return Object.entries(scores)
    .slice(0, 4)
    .map(([name, score]) => `${name} ${Number(score.toPrecision(4))}`)
    .join(", ");
}
