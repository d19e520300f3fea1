import { ConflictError } from "@drydock/kit";
import { temporalNames, type Evaluation } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { EvaluationStore, isOpenEvaluation } from "../store/evaluation-store.ts";
import { enqueue } from "../workflows/outbox.ts";

/**
 * Asks an evaluation to end: its workflow stops the worker, then notes it as cancelled. Asking again changes nothing.
 *
 * @throws NotFoundError `evaluation_not_found`
 * @throws ConflictError `evaluation_is_over`, `evaluation_of_run`
 */
export async function cancelEvaluation(
  tx: Database,
  id: string,
): Promise<{ readonly evaluation: Evaluation; readonly isChanged: boolean }> {
  const evaluations = new EvaluationStore(tx);
  const evaluation = await evaluations.lock(id);
  const { state, runId, message } = evaluation;
  if (runId !== null)
    throw new ConflictError("evaluation_of_run", `evaluation ${id} is part of run ${runId}: cancel that`);
  if (state === "cancelled" || (isOpenEvaluation(evaluation) && message === cancelling))
    return { evaluation, isChanged: false };
  if (!isOpenEvaluation(evaluation))
    throw new ConflictError("evaluation_is_over", `evaluation ${id} has ${state} and can no longer be cancelled`);
  await evaluations.say(id, cancelling);
  await enqueue(tx, { kind: "signal", workflowId: id, name: temporalNames.cancelSignal });
  return { evaluation: await evaluations.get(id), isChanged: true };
}

const cancelling = "Cancelling: its worker stops.";
