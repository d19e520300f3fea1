import { checkMetric, defaultMetrics } from "@drydock/data";
import { UnprocessableError, newId } from "@drydock/kit";
import {
  RunSpec,
  checkSweep,
  plannedTrials,
  temporalNames,
  trialParameters,
  trialRun,
  type RunParent,
  type SweepIssue,
  type SweepSpec,
} from "@drydock/spec";
import { holdModel } from "../registry/change-model.ts";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { SweepStore, type SweepRow } from "../store/sweep-store.ts";
import { enqueue } from "../workflows/outbox.ts";
import { goalOf } from "./sweep-views.ts";

/**
 * Refuses a sweep that cannot run: its space, its metric, and the plan of its first trial.
 *
 * @returns the sweep with the number of its data-set version and the step of its checkpoint, so that all trials begin alike
 * @throws UnprocessableError `invalid_sweep`, `plan_refused` with each fault as a detail
 * @throws NotFoundError, ConflictError when the data set or the model is not there or not ready
 */
export async function prepareSweep({ planner }: Pick<Services, "planner">, spec: SweepSpec): Promise<SweepSpec> {
  refuse("invalid_sweep", checkSweep(spec));
  const first = RunSpec.parse(trialRun(spec, trialParameters(spec, 1)));
  refuse("invalid_sweep", checkGoal(spec, first));
  const { plan, spec: numbered } = await planner.planToRun(first);
  refuse(
    "plan_refused",
    plan.refusals.map(({ path, code, message }) => ({ path: `run.${path}`, code, message })),
  );
  const { dataset, model, warmStart } = numbered;
  return { ...spec, run: { ...spec.run, dataset, model, ...(warmStart === undefined ? {} : { warmStart }) } };
}

/** Writes a sweep and the call that starts its workflow, in the caller's transaction. The same parent has one sweep. */
export async function submitSweep(
  tx: Database,
  { spec, parent }: { readonly spec: SweepSpec; readonly parent: RunParent | null },
): Promise<SweepRow> {
  const sweeps = new SweepStore(tx);
  const known = parent === null ? null : await sweeps.findByParent(parent);
  if (known) return known;
  await holdModel(tx, spec.run.model);
  const id = newId("sweep");
  const message = `${plannedTrials(spec)} trials, ${spec.maxParallel} at a time`;
  const row = await sweeps.insert({ id, spec, parent, message });
  await enqueue(tx, { kind: "start", workflowId: id, name: temporalNames.sweep, input: { sweepId: id } });
  return row;
}

function checkGoal(spec: SweepSpec, { task, evaluation }: RunSpec): SweepIssue[] {
  const { metric } = goalOf(spec);
  if (metric === "loss") return [];
  checkMetric(task, metric, "metric");
  const evaluated = evaluation.metrics ?? defaultMetrics[task];
  return evaluated.includes(metric)
    ? []
    : [
        {
          path: "metric",
          code: "metric_not_evaluated",
          message: `runs are to be compared by ${metric}, but evaluate only ${evaluated.join(", ")}: add it to run.evaluation.metrics`,
        },
      ];
}

function refuse(code: string, issues: readonly SweepIssue[]): void {
  if (issues.length > 0)
    throw new UnprocessableError(code, issues.map(({ path, message }) => `${path}: ${message}`).join(" "), {
      details: issues,
    });
}
