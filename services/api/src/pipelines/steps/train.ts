import { RunSpec, sweepOfStep, type PipelineStep, type SweepSpec } from "@drydock/spec";
import { steerRun } from "../../runs/steer-run.ts";
import { checkPlan, submitRun } from "../../runs/submit-run.ts";
import { gpuHoursOf } from "../../scheduling/gpu-hours.ts";
import type { Services } from "../../services.ts";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import { prepareSweep, submitSweep } from "../../sweeps/submit-sweep.ts";
import { lossStepsOf, toSweep } from "../../sweeps/sweep-views.ts";
import type { StepOutcome } from "../step-outcome.ts";

/** The data-set version of a pipeline's run: the one that was validated, else the newest one. */
export function datasetOf({ spec, results }: PipelineRunRow): string {
  return results.dataset ?? spec.dataset;
}

/** An ordinary run; its model is the candidate. One that uses up the budget is cancelled. */
export async function train(
  { planner, runs, database, outbox }: Pick<Services, "planner" | "runs" | "database" | "outbox">,
  run: PipelineRunRow,
  step: Extract<PipelineStep, { type: "train" }>,
): Promise<StepOutcome> {
  const { runId } = run.results;
  if (runId === undefined) {
    const planned = await planner.planToRun(RunSpec.parse({ ...step.run, dataset: datasetOf(run) }));
    checkPlan(planned, undefined);
    return {
      kind: "start",
      write: async (tx) => {
        const { id } = await submitRun(tx, planned, run.id, { kind: "pipeline", id: run.id, part: "train" });
        return { runId: id, dataset: planned.spec.dataset };
      },
    };
  }
  const { state, message, model, plan, attempts } = await runs.get(runId);
  const used = gpuHoursOf({ state, layout: plan.layout, attempts }, new Date());
  const { gpuHours = Infinity } = run.spec.budget;
  if (state === "succeeded" && model !== null)
    return { kind: "done", message: `run ${runId} made ${model}`, results: { candidate: model } };
  if (state === "cancelled" && used >= gpuHours)
    return {
      kind: "end",
      state: "failed",
      message: `run ${runId} was cancelled after ${used.toFixed(2)} GPU hours: the budget of ${gpuHours} is used up; its checkpoints are kept`,
    };
  if (state === "failed" || state === "cancelled")
    return {
      kind: "end",
      state: "failed",
      message: `run ${runId} ${state === "failed" ? "failed" : "was cancelled"}: ${message}`,
    };
  if (used >= gpuHours) {
    await database.transaction(
      async (tx) => await steerRun(tx, { runId, action: "cancel", actor: run.id, ifMatch: undefined }),
    );
    outbox.kick();
  }
  return { kind: "wait" };
}

/** A sweep; the model of its best trial is the candidate. */
export async function sweep(
  services: Pick<Services, "planner" | "sweeps">,
  run: PipelineRunRow,
  step: Extract<PipelineStep, { type: "sweep" }>,
): Promise<StepOutcome> {
  const { sweepId } = run.results;
  if (sweepId === undefined) {
    const asked = sweepOfStep(step, datasetOf(run));
    if (!asked.success) return { kind: "end", state: "failed", message: asked.error.message };
    const spec = await prepareSweep(services, withinBudget(asked.data, run.spec.budget.gpuHours));
    const dataset = String(spec.run["dataset"]);
    return {
      kind: "start",
      write: async (tx) => {
        const parent = { kind: "pipeline", id: run.id, part: "sweep" } as const;
        return { sweepId: (await submitSweep(tx, { spec, parent })).id, dataset };
      },
    };
  }
  const row = await services.sweeps.get(sweepId);
  const { state, message, best, trials } = toSweep(row, await services.sweeps.trials(row.id, lossStepsOf(row.spec)));
  if (state === "failed" || state === "cancelled")
    return {
      kind: "end",
      state: "failed",
      message: `sweep ${sweepId} ${state === "failed" ? "failed" : "was cancelled"}: ${message}`,
    };
  if (state !== "succeeded" || !best?.model) return { kind: "wait" };
  const told = `sweep ${sweepId}: ${message}, ${trials.stopped} stopped early; it made ${best.model}`;
  return { kind: "done", message: told, results: { candidate: best.model, runId: best.runId } };
}

/** The sweep's own budget or the pipeline's, whichever is smaller. */
function withinBudget(sweepSpec: SweepSpec, gpuHours: number | undefined): SweepSpec {
  if (gpuHours === undefined) return sweepSpec;
  return { ...sweepSpec, budget: { gpuHours: Math.min(gpuHours, sweepSpec.budget.gpuHours ?? Infinity) } };
}
