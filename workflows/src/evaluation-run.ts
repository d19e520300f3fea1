import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  defineSignal,
  isCancellation,
  proxyActivities,
  setHandler,
} from "@temporalio/workflow";
import type { EvaluationInput } from "@drydock/spec";
import type { EvaluationActivities, ShardOutcome } from "./activities.ts";
import { joinOf, stoppedShard } from "./evaluation-run.state.ts";

const retry = { initialInterval: "1 second", maximumInterval: "30 seconds" } as const;

// What is cancelled stops its worker before it ends: who gave up at once would leave the worker to itself.
const { runEvaluation, runEvaluationShard } = proxyActivities<EvaluationActivities>({
  startToCloseTimeout: "7 days",
  heartbeatTimeout: "15 seconds",
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry,
});

const { joinEvaluation, endEvaluation } = proxyActivities<EvaluationActivities>({
  startToCloseTimeout: "30 minutes",
  retry,
});

export const cancelEvaluationSignal = defineSignal("cancel");

/** One evaluation of its own. The workflow id is the evaluation's id. */
export async function evaluationRun(input: EvaluationInput): Promise<void> {
  const answering = new CancellationScope();
  let isCancelled = false;
  setHandler(cancelEvaluationSignal, () => {
    isCancelled = true;
    answering.cancel();
  });
  try {
    const outcomes = await answering.run(async () => await answerAll(input));
    if (isCancelled) return await endEvaluation({ ...input, state: "cancelled", message: cancelled });
    if (outcomes !== null) await joinEvaluation({ ...input, ...joinOf(outcomes) });
  } catch (error) {
    if (isCancelled && isCancellation(error))
      return await endEvaluation({ ...input, state: "cancelled", message: cancelled });
    // Only what no retry can mend gets here; whoever asked must not find the evaluation running for ever.
    if (!(error instanceof ActivityFailure)) throw error;
    await endEvaluation({ ...input, state: "failed", message: error.cause?.message ?? error.message });
  }
}

const cancelled = "cancelled: its worker was stopped, nothing was scored";

/** Null when one worker answered all rows, and has scored them, too. */
async function answerAll(input: EvaluationInput): Promise<ShardOutcome[] | null> {
  const shards = input.spec.shards ?? 1;
  if (shards > 1) return await answerShards(input, shards);
  await runEvaluation(input);
  return null;
}

/** All shards side by side; the first that fails stops the others, since no scores could be made of them. */
async function answerShards(input: EvaluationInput, count: number): Promise<ShardOutcome[]> {
  const scope = new CancellationScope();
  const answer = async (index: number): Promise<ShardOutcome> => {
    const outcome = await outcomeOf(runEvaluationShard({ ...input, shard: { index, count } }));
    if (outcome.failure !== null) scope.cancel();
    return outcome;
  };
  return await scope.run(async () => await Promise.all(Array.from({ length: count }, (_, index) => answer(index))));
}

async function outcomeOf(shard: Promise<ShardOutcome>): Promise<ShardOutcome> {
  try {
    return await shard;
  } catch (error) {
    if (isCancellation(error)) return stoppedShard;
    if (error instanceof ActivityFailure) return { failure: error.cause?.message ?? error.message, seconds: null };
    throw error;
  }
}
