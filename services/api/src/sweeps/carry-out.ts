import { ConflictError, isDrydockError, messageOf, UnprocessableError } from "@drydock/kit";
import { RunSpec, trialParameters, trialRun, type RunSpecInput, type SweepAction } from "@drydock/spec";
import { isTerminal } from "../runs/run-state-machine.ts";
import { steerRun, type RunAction } from "../runs/steer-run.ts";
import { checkPlan, submitRun } from "../runs/submit-run.ts";
import type { PlannedRun } from "../planning/run-planner.ts";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { RunStore } from "../store/run-store.ts";
import { isTerminalSweep, SweepStore, type SweepRow } from "../store/sweep-store.ts";

type Needed = Pick<Services, "database" | "planner" | "sweeps">;

/** Does what was decided about a sweep. Doing it again changes nothing. */
export async function carryOut(services: Needed, sweepId: string, action: SweepAction): Promise<void> {
  if (action.kind === "start") return await startTrial(services, sweepId, action.trial);
  await services.database.transaction(async (tx) => {
    const sweeps = new SweepStore(tx);
    const sweep = await sweeps.lock(sweepId);
    if (isTerminalSweep(sweep.state)) return;
    if (action.kind !== "end") return await steerTrial(tx, sweep, action);
    // Nobody looks at them after that. There are some only when it fails for what no retry mends.
    for (const trial of await sweeps.openTrials(sweepId))
      await steerTrial(tx, sweep, { kind: "stop", trial, message: action.message });
    await sweeps.change(sweep, { state: action.state, message: action.message });
  });
}

/** A trial that its plan refuses is a failed trial, not a failed sweep. */
async function startTrial({ database, planner, sweeps }: Needed, sweepId: string, number: number): Promise<void> {
  const { spec } = await sweeps.get(sweepId);
  if (await sweeps.findTrial(sweepId, number)) return;
  const parameters = { ...trialParameters(spec, number) };
  const planned = await plannedOrReason(planner, trialRun(spec, parameters));
  await database.transaction(async (tx) => {
    const store = new SweepStore(tx);
    const sweep = await store.lock(sweepId);
    if (sweep.state !== "running" || (await store.findTrial(sweepId, number))) return;
    if (typeof planned === "string") {
      await store.insertTrial({ sweepId, number, runId: null, parameters, message: planned });
    } else {
      const parent = { kind: "sweep", id: sweepId, part: String(number) } as const;
      const run = await submitRun(tx, planned, sweepId, parent);
      await store.insertTrial({ sweepId, number, runId: run.id, parameters, message: "" });
    }
    await store.change(sweep, {});
  });
}

async function plannedOrReason(planner: Services["planner"], asked: RunSpecInput): Promise<PlannedRun | string> {
  const spec = RunSpec.safeParse(asked);
  if (!spec.success) return spec.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  try {
    const planned = await planner.planToRun(spec.data);
    checkPlan(planned, undefined);
    return planned;
  } catch (error) {
    if (error instanceof UnprocessableError || (isDrydockError(error) && !error.isRetryable)) return messageOf(error);
    throw error;
  }
}

const steering = {
  stop: { runAction: "cancel", decision: "stopped" },
  hold: { runAction: "pause", decision: "held" },
  release: { runAction: "resume", decision: "open" },
} as const satisfies Record<string, { runAction: RunAction; decision: string }>;

async function steerTrial(
  tx: Database,
  sweep: SweepRow,
  action: Extract<SweepAction, { kind: "stop" | "hold" | "release" }>,
): Promise<void> {
  const store = new SweepStore(tx);
  const trial = await store.findTrial(sweep.id, action.trial);
  if (!trial?.runId) return;
  // It may have ended since the decision was made.
  if (isTerminal(await new RunStore(tx).stateOf(trial.runId))) return;
  const { runAction, decision } = steering[action.kind];
  try {
    await steerRun(tx, { runId: trial.runId, action: runAction, actor: sweep.id, ifMatch: undefined });
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error;
    // A person, or its own workflow, has moved it on since: the next look decides anew. What goes on already need not be released.
    if (action.kind === "release") await store.decideTrial(sweep.id, action.trial, decision, "");
    return;
  }
  await store.decideTrial(sweep.id, action.trial, decision, action.kind === "stop" ? action.message : "");
  await store.change(sweep, {});
}
