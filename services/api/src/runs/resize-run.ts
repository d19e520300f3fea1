import { ConflictError, newId } from "@drydock/kit";
import { planDigest, temporalNames, type Plan, type Run, type RunSpec } from "@drydock/spec";
import type { PlannedRun, RunPlanner } from "../planning/run-planner.ts";
import type { Database } from "../store/database.ts";
import { RunStore } from "../store/run-store.ts";
import { enqueue } from "../workflows/outbox.ts";
import { isTerminal } from "./run-state-machine.ts";
import { checkPlan } from "./submit-run.ts";

/** The run with other resources: null when it has them already. */
export interface ResizePlan {
  readonly spec: RunSpec;
  readonly plan: Plan;
}

/**
 * Plans a run again for another number of GPUs. The steps stay those that the run was submitted with, so that the schedule
 * and the order of the data do.
 *
 * @throws UnprocessableError `plan_refused` when the run cannot have so many
 * @throws ConflictError `run_is_over`
 */
export async function planResize(planner: RunPlanner, run: Run, gpus: number): Promise<ResizePlan | null> {
  checkOpen(run);
  if (run.plan.layout?.gpus === gpus) return null;
  const { resources } = run.spec;
  const spec = { ...run.spec, resources: { ...(resources === "auto" ? {} : resources), gpus } };
  const planned: PlannedRun = await planner.planToRun(spec);
  checkPlan(planned, undefined);
  const { digest: _, ...plan } = { ...planned.plan, steps: run.plan.steps };
  return { spec: planned.spec, plan: { digest: planDigest(plan), ...plan } };
}

/**
 * Gives the run its new plan and tells its workflow, which stops a running attempt after a checkpoint and starts the next
 * one with the new layout; in the caller's transaction.
 *
 * @throws ConflictError `run_is_over`
 * @throws PreconditionFailedError `run_changed`
 */
export async function resizeRun(
  tx: Database,
  {
    runId,
    resize,
    actor,
    ifMatch,
  }: {
    readonly runId: string;
    readonly resize: ResizePlan | null;
    readonly actor: string;
    readonly ifMatch: string | undefined;
  },
): Promise<{ run: Run; isChanged: boolean }> {
  const runs = new RunStore(tx);
  await runs.checkUnchanged(runId, ifMatch);
  const before = await runs.get(runId);
  checkOpen(before);
  if (resize === null) return { run: before, isChanged: false };
  const was = before.plan.layout?.gpus ?? 0;
  const gpus = resize.plan.layout?.gpus ?? 0;
  await runs.replan(runId, resize);
  await runs.transition(runId, {
    key: `resize/${newId("event")}`,
    to: before.state,
    reason: "resize-requested",
    message: `Resizing from ${was} to ${gpus} GPUs: the next attempt has ${gpus}, from a checkpoint of the step under way. Global batch and data order stay.`,
    actor,
  });
  await enqueue(tx, { kind: "signal", workflowId: runId, name: temporalNames.resizeSignal });
  return { run: await runs.get(runId), isChanged: true };
}

function checkOpen({ id, state }: Run): void {
  if (!isTerminal(state)) return;
  throw new ConflictError(
    "run_is_over",
    `run ${id} has ${state === "cancelled" ? "been cancelled" : state} and can no longer be changed: submit a new one`,
  );
}
