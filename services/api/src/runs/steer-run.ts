import { ConflictError, newId } from "@drydock/kit";
import { temporalNames, type Run, type RunState, type RunTransition } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { RunStore } from "../store/run-store.ts";
import { enqueue } from "../workflows/outbox.ts";
import { isPausable, isTerminal } from "./run-state-machine.ts";

export type RunAction = "pause" | "resume" | "cancel";

interface Request {
  readonly runId: string;
  readonly action: RunAction;
  readonly actor: string;
  readonly ifMatch: string | undefined;
}

type Change = Pick<RunTransition, "to" | "reason" | "message">;

/**
 * Asks a run to pause, go on or end: the change of state and the signal to its workflow, in the caller's transaction.
 * Asking for what is so already changes nothing.
 *
 * @throws NotFoundError `run_not_found`
 * @throws ConflictError `run_is_over`, `run_not_pausable`, `run_not_paused`
 * @throws PreconditionFailedError `run_changed`
 */
export async function steerRun(
  tx: Database,
  { runId, action, actor, ifMatch }: Request,
): Promise<{ run: Run; isChanged: boolean }> {
  const runs = new RunStore(tx);
  await runs.checkUnchanged(runId, ifMatch);
  const before = await runs.get(runId);
  const change = changeFor(before, action);
  if (change === null) return { run: before, isChanged: false };
  await runs.transition(runId, { ...change, key: `${action}/${newId("event")}`, actor });
  await enqueue(tx, { kind: "signal", workflowId: runId, name: temporalNames[`${action}Signal`] });
  return { run: await runs.get(runId), isChanged: true };
}

function changeFor({ id, state, reason }: Run, action: RunAction): Change | null {
  if (isTerminal(state)) {
    if (action === "cancel" && state === "cancelled") return null;
    throw new ConflictError(
      "run_is_over",
      `run ${id} has ${state === "cancelled" ? "been cancelled" : state} and can no longer be changed: submit a new one`,
    );
  }
  switch (action) {
    case "cancel":
      return reason === "cancel-requested"
        ? null
        : {
            to: state,
            reason: "cancel-requested",
            message: "Cancelling: the worker stops after its step, and checkpoints are kept.",
          };
    case "pause":
      if (state === "paused" || state === "pausing") return null;
      return pauseFrom(id, state);
    case "resume":
      if (state !== "paused" && reason === "resume-requested") return null;
      if (state === "paused")
        return {
          to: "queued",
          reason: "resume-requested",
          message: "Going on from the last checkpoint as soon as there is room.",
        };
      throw new ConflictError(
        "run_not_paused",
        `run ${id} is ${state}, not paused: ${state === "pausing" ? "wait until it is paused, then resume it" : "there is nothing to resume"}`,
      );
  }
}

function pauseFrom(id: string, state: RunState): Change {
  if (!isPausable(state)) throw new ConflictError("run_not_pausable", `run ${id} is ${state} and cannot be paused now`);
  return {
    to: "pausing",
    reason: "pause-requested",
    message: "Pausing: the step under way is finished and a checkpoint is written.",
  };
}
