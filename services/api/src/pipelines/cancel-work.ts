import { ConflictError } from "@drydock/kit";
import { cancelEvaluation } from "../evaluations/cancel-evaluation.ts";
import { isTerminal } from "../runs/run-state-machine.ts";
import { steerRun } from "../runs/steer-run.ts";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { EvaluationStore, isOpenEvaluation } from "../store/evaluation-store.ts";
import type { PipelineRunRow } from "../store/pipeline-store.ts";
import { isTerminalSweep, SweepStore } from "../store/sweep-store.ts";
import { RunStore } from "../store/run-store.ts";

/** Ends what a pipeline's run has started; true when all of it has ended. */
export async function cancelWork(
  { database, outbox }: Pick<Services, "database" | "outbox">,
  { id, results }: PipelineRunRow,
): Promise<boolean> {
  const { sweepId, runId, evaluations } = results;
  const isOver = await database.transaction(async (tx) => {
    const ends = [
      sweepId === undefined || (await endSweep(tx, sweepId)),
      runId === undefined || (await endRun(tx, runId, id)),
      await endEvaluation(tx, evaluations?.candidate ?? null),
      await endEvaluation(tx, evaluations?.production ?? null),
    ];
    return ends.every(Boolean);
  });
  outbox.kick();
  return isOver;
}

async function endSweep(tx: Database, sweepId: string): Promise<boolean> {
  const sweeps = new SweepStore(tx);
  const sweep = await sweeps.lock(sweepId);
  if (isTerminalSweep(sweep.state)) return true;
  if (sweep.state !== "cancelling")
    await sweeps.change(sweep, { state: "cancelling", message: "the pipeline's run has ended" });
  return false;
}

async function endRun(tx: Database, runId: string, actor: string): Promise<boolean> {
  if (isTerminal(await new RunStore(tx).stateOf(runId))) return true;
  try {
    await steerRun(tx, { runId, action: "cancel", actor, ifMatch: undefined });
  } catch (error) {
    // It ended just now, which the next look sees.
    if (!(error instanceof ConflictError)) throw error;
  }
  return false;
}

async function endEvaluation(tx: Database, evaluationId: string | null): Promise<boolean> {
  if (evaluationId === null || !isOpenEvaluation(await new EvaluationStore(tx).lock(evaluationId))) return true;
  await cancelEvaluation(tx, evaluationId);
  return false;
}
