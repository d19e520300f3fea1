import { explainGateRule, parseGateRule } from "@drydock/data";
import { isDrydockError, messageOf } from "@drydock/kit";
import {
  formatSeconds,
  nextScheduled,
  plannedTrials,
  runOf,
  sweepOfStep,
  type PipelineDryRun,
  type PipelineSpec,
  type PipelineStep,
} from "@drydock/spec";
import { modelText } from "../evaluations/model-text.ts";
import type { Services } from "../services.ts";
import { productionOf } from "./steps/evaluate.ts";

const timesShown = 5;

/** What would happen if a pipeline were started now. Starts and writes nothing. */
export async function dryRun(
  services: Pick<Services, "datasets" | "models" | "planner">,
  spec: PipelineSpec,
  now: Date,
): Promise<PipelineDryRun> {
  const run = runOf(spec);
  const problems: string[] = [];
  const dataset = await noting(problems, async () => {
    const { version } = await services.datasets.resolve(spec.dataset);
    return `${spec.dataset}@${version}`;
  });
  const planned = await noting(
    problems,
    async () => await services.planner.planToRun({ ...run, dataset: dataset ?? spec.dataset }),
  );
  problems.push(...(planned?.plan.refusals.map(({ message }) => message) ?? []));
  const production = await productionOf(services, run.name);
  const gate = spec.steps.find(({ type }) => type === "gate");
  if (gate?.type === "gate" && production === null && gate.withoutProduction === "refuse")
    problems.push(
      `no version of ${run.name} is in production, so rules that compare with it refuse: promote one by hand first, or set withoutProduction to "pass"`,
    );
  const seconds = planned?.plan.timeSeconds?.high ?? 0;
  const gpuHours = (seconds / 3600) * (planned?.plan.layout?.gpus ?? 1);
  if (spec.budget.gpuHours !== undefined && gpuHours > spec.budget.gpuHours)
    problems.push(
      `one training may take up to ${gpuHours.toFixed(2)} GPU hours, more than the budget of ${spec.budget.gpuHours}: raise budget.gpuHours, or train fewer steps`,
    );
  return {
    dataset,
    model: run.name,
    production,
    steps: spec.steps.map((step) => ({ step: step.type, what: whatOf(step, spec, production, seconds) })),
    nextTimes: nextTimes(spec, now),
    problems,
  };
}

async function noting<Result>(problems: string[], work: () => Promise<Result>): Promise<Result | null> {
  try {
    return await work();
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    problems.push(messageOf(error));
    return null;
  }
}

function whatOf(step: PipelineStep, spec: PipelineSpec, production: string | null, seconds: number): string {
  const run = runOf(spec);
  switch (step.type) {
    case "validate":
      return `wait until the newest version of ${spec.dataset} is checked`;
    case "train":
      return `train ${modelText(run.model)} (${run.mode}) on ${spec.dataset}, about ${formatSeconds(seconds)}, into a new version of ${run.name}`;
    case "sweep": {
      const sweep = sweepOfStep(step, spec.dataset);
      const trials = sweep.success
        ? `${plannedTrials(sweep.data)} trials, ${sweep.data.maxParallel} at a time`
        : "a sweep that is not valid";
      return `${trials}, each up to about ${formatSeconds(seconds)}; the best becomes the candidate`;
    }
    case "evaluate":
      return `score the candidate and ${production ?? "nothing else, as nothing is in production"} on the validation split of ${step.dataset ?? spec.dataset}`;
    case "gate":
      return `go on if ${step.rules.map((rule) => explainGateRule(parseGateRule(rule))).join("; and ")}`;
    case "approve":
      return `wait up to ${formatSeconds(step.timeoutSeconds)} for a person; then ${step.onTimeout}`;
    case "promote":
      return `verify the candidate's files and put it into production${production === null ? "" : ` in place of ${production}`}`;
    case "deploy":
      return `point ${run.name}@${step.alias} at it`;
    case "watch":
      return `watch reported answers for ${formatSeconds(step.windowSeconds)} and roll back when ${step.metric} is ${step.minimum === undefined ? `more than ${step.maximumDrop} below the evaluation's` : `below ${step.minimum}`}`;
  }
}

function nextTimes(spec: PipelineSpec, now: Date): string[] {
  const times: string[] = [];
  let at: Date | null = now;
  while (times.length < timesShown && (at = nextScheduled(spec, at)) !== null) times.push(at.toISOString());
  return times;
}
