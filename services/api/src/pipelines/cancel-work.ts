import { isTerminal } from "../runs/run-state-machine.ts";
import { steerRun } from "../runs/steer-run.ts";
import type { Services } from "../services.ts";
import type { PipelineRunRow } from "../store/pipeline-store.ts";
import { isTerminalSweep, SweepStore } from "../store/sweep-store.ts";
import { RunStore } from "../store/run-store.ts";

/** Ends what a pipeline's run has started; true when it has ended. Evaluations end by themselves. */
export async function cancelWork(
  { database, outbox }: Pick<Services, "database" | "outbox">,
  { id, results }: PipelineRunRow,
): Promise<boolean> {
  const isOver = await database.transaction(async (tx) => {
    if (results.sweepId !== undefined) {
      const sweeps = new SweepStore(tx);
      const sweep = await sweeps.lock(results.sweepId);
      if (isTerminalSweep(sweep.state)) return true;
      if (sweep.state !== "cancelling")
        await sweeps.change(sweep, { state: "cancelling", message: "the pipeline's run was cancelled" });
      return false;
    }
    if (results.runId === undefined || isTerminal(await new RunStore(tx).stateOf(results.runId))) return true;
    await steerRun(tx, { runId: results.runId, action: "cancel", actor: id, ifMatch: undefined });
    return false;
  });
  outbox.kick();
  return isOver;
}
