import { ConflictError, UnprocessableError, newId } from "@drydock/kit";
import { temporalNames, type Run, type RunParent } from "@drydock/spec";
import type { PlannedRun } from "../planning/run-planner.ts";
import { holdModel } from "../registry/change-model.ts";
import type { Database } from "../store/database.ts";
import { RunStore } from "../store/run-store.ts";
import { enqueue } from "../workflows/outbox.ts";

/**
 * Refuses a run that its plan refuses, or whose plan is not the one that the user saw.
 *
 * @throws UnprocessableError `plan_refused` with each refusal as a detail
 * @throws ConflictError `plan_changed`
 */
export function checkPlan(planned: PlannedRun, expectedDigest: string | undefined): void {
  const { refusals, digest } = planned.plan;
  if (refusals.length > 0)
    throw new UnprocessableError(
      "plan_refused",
      refusals.map((refusal) => `${refusal.path}: ${refusal.message}`).join(" "),
      { details: refusals },
    );
  if (expectedDigest === undefined || expectedDigest === digest) return;
  const message = `the plan has changed since you saw it (it is ${digest} now, you expected ${expectedDigest}): plan again, look at it, and submit with the new digest`;
  throw new ConflictError("plan_changed", message, {
    details: [{ path: "expect.planDigest", code: "plan_changed", message }],
  });
}

/** Writes a run and the call that starts its workflow, in the caller's transaction. The workflow's id is the run's. */
export async function submitRun(
  tx: Database,
  planned: PlannedRun,
  actor: string,
  parent: RunParent | null = null,
): Promise<Run> {
  const { spec, plan, dataset } = planned;
  const id = newId("run");
  await holdModel(tx, spec.model);
  const run = await new RunStore(tx).insert({
    id,
    spec,
    plan,
    datasetId: dataset.datasetId,
    datasetVersion: dataset.version,
    actor,
    parent,
  });
  await enqueue(tx, { kind: "start", workflowId: id, name: temporalNames.fineTuneRun, input: { runId: id } });
  return run;
}
