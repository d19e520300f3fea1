import { ConflictError } from "@drydock/kit";
import type { Run, RunChange, RunState } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { RunStore } from "../store/run-store.ts";
import { isTerminal } from "./run-state-machine.ts";

/** States in which a priority still decides something; beside them, a run whose Job waits in the cluster's queue. */
const waitingStates: readonly RunState[] = ["validating", "queued", "paused"];

/**
 * Changes the priority of a run that has not started, or waits to go on, in the caller's transaction. The controller's
 * admission, or the Job that waits in Kueue, hears of it with the answer to its next cluster report, within seconds.
 *
 * @throws NotFoundError `run_not_found`
 * @throws ConflictError `run_is_over`, `run_not_waiting`
 * @throws PreconditionFailedError `run_changed`
 */
export async function changePriority(
  tx: Database,
  request: {
    readonly runId: string;
    readonly change: RunChange;
    readonly actor: string;
    readonly ifMatch: string | undefined;
  },
): Promise<{ run: Run; isChanged: boolean }> {
  const { runId, change, actor, ifMatch } = request;
  const runs = new RunStore(tx);
  await runs.checkUnchanged(runId, ifMatch);
  const before = await runs.get(runId);
  const { state, reason } = before;
  if (isTerminal(state))
    throw new ConflictError("run_is_over", `run ${runId} has ${state === "cancelled" ? "been cancelled" : state}`);
  const isHeldByCluster = state === "scheduling" && reason === "waiting-in-queue";
  if (!waitingStates.includes(state) && !isHeldByCluster)
    throw new ConflictError(
      "run_not_waiting",
      `run ${runId} is ${state}, and a priority decides who starts first: pause the run, change its priority, and resume it`,
    );
  const was = before.spec.priority;
  if (was === change.priority) return { run: before, isChanged: false };
  await runs.setPriority(runId, change.priority, { message: `Priority ${was} → ${change.priority}.`, actor });
  return { run: await runs.get(runId), isChanged: true };
}
