import { InvalidError } from "@drydock/kit";
import { aliasRefusal } from "../contract/model-alias.ts";
import { sweepOfStep, type PipelineSpec, type PipelineStep } from "../contract/pipeline.ts";
import { RunSpec } from "../contract/run-spec.ts";
import { checkSweep } from "../sweeps/check-sweep.ts";
import { trialRun } from "../sweeps/space.ts";
import { trialParameters } from "../sweeps/trial-parameters.ts";
import { checkCron } from "./schedule.ts";

type StepType = PipelineStep["type"];

/** Steps come in this order; training and sweep are in one another's place. */
const ranks: Readonly<Record<StepType, number>> = {
  validate: 0,
  train: 1,
  sweep: 1,
  evaluate: 2,
  gate: 3,
  approve: 4,
  promote: 5,
  deploy: 6,
  watch: 7,
};
/** What a step needs before it. */
const needs: Readonly<Partial<Record<StepType, StepType>>> = { gate: "evaluate", deploy: "promote", watch: "promote" };

/**
 * @returns the run spec that the candidates come from; its name is the model's
 * @throws InvalidError with the path and what to change
 */
export function checkPipeline(spec: PipelineSpec): RunSpec {
  checkOrder(spec.steps);
  checkWatch(spec.steps);
  spec.triggers.forEach((trigger, index) => {
    if (trigger.type === "metric" && (trigger.minimum === undefined) === (trigger.maximumDrop === undefined))
      refuse(
        "invalid_trigger",
        `triggers.${index}`,
        'a trigger of type "metric" needs either "minimum" or "maximumDrop"',
      );
    if (trigger.type === "cron") checkCron(trigger, `triggers.${index}.expression`);
    if (trigger.type === "pipeline" && trigger.pipeline === spec.name)
      refuse("pipeline_cycle", `triggers.${index}`, `pipeline ${spec.name} is started by itself: it would never end`);
  });
  const run = runOf(spec);
  for (const [index, step] of spec.steps.entries()) {
    const message = step.type === "deploy" ? aliasRefusal(run.name, step.alias) : null;
    if (message !== null) refuse("alias_refused", `steps.${index}.alias`, message);
  }
  return run;
}

/** The run spec of the train step, or that of the sweep's first trial. @throws InvalidError */
export function runOf({ steps, dataset }: Pick<PipelineSpec, "steps" | "dataset">): RunSpec {
  const at = steps.findIndex(({ type }) => type === "train" || type === "sweep");
  const step = steps[at];
  if (step?.type === "train") {
    const parsed = RunSpec.safeParse({ ...step.run, dataset });
    if (parsed.success) return parsed.data;
    return refuseIssues(parsed.error.issues, `steps.${at}.run`);
  }
  if (step?.type !== "sweep")
    return refuse("no_training", "steps", 'a pipeline needs a step "train" or "sweep": nothing would make a candidate');
  const sweep = sweepOfStep(step, dataset);
  if (!sweep.success) return refuseIssues(sweep.error.issues, `steps.${at}.sweep`);
  const [issue] = checkSweep(sweep.data);
  if (issue) refuse(issue.code, `steps.${at}.sweep.${issue.path}`, issue.message);
  return RunSpec.parse(trialRun(sweep.data, trialParameters(sweep.data, 1)));
}

function checkWatch(steps: readonly PipelineStep[]): void {
  for (const [index, step] of steps.entries()) {
    if (step.type !== "watch") continue;
    const isRelative = step.maximumDrop !== undefined;
    if (isRelative === (step.minimum !== undefined))
      refuse("invalid_step", `steps.${index}`, 'step "watch" needs either "minimum" or "maximumDrop"');
    if (isRelative && !steps.some(({ type }) => type === "evaluate"))
      refuse("missing_step", `steps.${index}`, 'step "watch" with "maximumDrop" needs a step "evaluate" to fall from');
  }
}

function checkOrder(steps: readonly PipelineStep[]): void {
  for (const [index, { type }] of steps.entries()) {
    const before = steps.slice(0, index);
    const later = before.find((step) => ranks[step.type] >= ranks[type]);
    if (later)
      refuse(
        "steps_out_of_order",
        `steps.${index}`,
        `step "${type}" cannot come after "${later.type}": the order is validate, train or sweep, evaluate, gate, approve, promote, deploy, watch, each at most once`,
      );
    const needed = needs[type];
    if (needed && !before.some((step) => step.type === needed))
      refuse("missing_step", `steps.${index}`, `step "${type}" needs a step "${needed}" before it`);
  }
}

/**
 * Refuses pipelines that start one another in a circle.
 *
 * @param others  the pipelines that there are
 * @throws InvalidError `pipeline_cycle` with the names in order, `unknown_pipeline`
 */
export function checkCycle(spec: PipelineSpec, others: readonly PipelineSpec[]): void {
  const known = new Map([...others, spec].map((each) => [each.name, each]));
  spec.triggers.forEach((trigger, index) => {
    if (trigger.type === "pipeline" && !known.has(trigger.pipeline))
      refuse(
        "unknown_pipeline",
        `triggers.${index}.pipeline`,
        `there is no pipeline "${trigger.pipeline}": list them with GET /v1/pipelines`,
      );
  });
  const circle = pathBack(spec.name, [spec.name], known);
  if (circle)
    refuse("pipeline_cycle", "triggers", `these pipelines would start one another for ever: ${circle.join(" → ")}`);
}

function pathBack(target: string, path: readonly string[], known: ReadonlyMap<string, PipelineSpec>): string[] | null {
  const sources = (known.get(path.at(-1) as string)?.triggers ?? []).flatMap((trigger) =>
    trigger.type === "pipeline" ? [trigger.pipeline] : [],
  );
  for (const source of sources) {
    if (source === target) return [target, ...path.slice(1).toReversed(), target];
    if (path.includes(source)) continue;
    const found = pathBack(target, [...path, source], known);
    if (found) return found;
  }
  return null;
}

function refuseIssues(
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
  at: string,
): never {
  const [first] = issues;
  return refuse(
    "invalid_step",
    [at, ...(first?.path ?? [])].join("."),
    `${[at, ...(first?.path ?? [])].join(".")}: ${first?.message ?? "not valid"}`,
  );
}

function refuse(code: string, path: string, message: string): never {
  throw new InvalidError(code, message, { details: [{ path, code, message }] });
}
