import { parseGateRule } from "@drydock/data";
import type { PipelineResults, PipelineSpec, PipelineStep } from "@drydock/spec";
import { readAllSamples } from "../../evaluations/read-all-samples.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";

type Needed = Pick<Services, "evaluations" | "storage" | "statistics">;
type GateStep = Extract<PipelineStep, { type: "gate" }>;

/** The metrics that the rules of a pipeline's gate name; undefined without a gate. */
export function metricsOfRules({ steps }: Pick<PipelineSpec, "steps">): string[] | undefined {
  const step = steps.find(({ type }) => type === "gate");
  if (step?.type !== "gate") return undefined;
  const named = step.rules
    .map(parseGateRule)
    .flatMap(({ metric, bound }) => [metric, ...(bound.kind === "production" ? [bound.metric] : [])]);
  return [...new Set(named)];
}

/** Holds the candidate against every rule, on the rows that both models answered. */
export async function gate(
  services: Needed & Pick<Services, "gates">,
  { id, results }: PipelineRunRow,
  step: GateStep,
): Promise<StepOutcome> {
  const { evaluations } = results;
  if (evaluations === undefined) return { kind: "end", state: "failed", message: "nothing was evaluated" };
  if (results.candidate !== undefined && results.production === results.candidate)
    return {
      kind: "done",
      message: `${results.candidate} is in production already: there is nothing to hold it against`,
    };
  // A gate that is done again is held over other evaluations.
  const key = `${id}/${evaluations.candidate}`;
  return await services.gates.outcome(key, async () => await hold(services, results.candidate, evaluations, step));
}

async function hold(
  { evaluations, storage, statistics }: Needed,
  candidate: string | undefined,
  asked: NonNullable<PipelineResults["evaluations"]>,
  step: GateStep,
): Promise<StepOutcome> {
  const answersOf = async (id: string) => {
    const evaluation = await evaluations.get(id);
    return { task: evaluation.spec.task, samples: await readAllSamples(storage, evaluation) };
  };
  const question = {
    candidate: await answersOf(asked.candidate),
    production: asked.production === null ? null : await answersOf(asked.production),
    withoutProduction: step.withoutProduction,
    significance: step.significance ?? null,
  };
  const outcome = await statistics.gate({ rules: step.rules.map(parseGateRule), question });
  const kept = { passed: outcome.passed, results: [...outcome.results] };
  const failed = outcome.results.filter(({ passed }) => !passed);
  if (failed.length > 0)
    return {
      kind: "end",
      state: "refused",
      message: `the gate refused ${candidate}: ${failed.map(({ reason }) => reason).join("; ")}`,
      results: { gate: kept },
    };
  const message = `the gate passed ${candidate}: ${outcome.results.map(({ reason }) => reason).join("; ")}`;
  return { kind: "done", message, results: { gate: kept } };
}
