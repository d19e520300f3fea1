import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  isCancellation,
  proxyActivities,
} from "@temporalio/workflow";
import type { EvaluationInput } from "@drydock/spec";
import type { EvaluationActivities, ShardOutcome } from "./activities.ts";
import { joinOf, stoppedShard } from "./evaluation-run.state.ts";

const options = {
  startToCloseTimeout: "7 days",
  heartbeatTimeout: "15 seconds",
  retry: { initialInterval: "1 second", maximumInterval: "30 seconds" },
} as const;

const { runEvaluation } = proxyActivities<EvaluationActivities>(options);

// A shard that is cancelled stops its worker before it ends: who gave up at once would leave the worker to itself.
const { runEvaluationShard } = proxyActivities<EvaluationActivities>({
  ...options,
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
});

const { joinEvaluation } = proxyActivities<EvaluationActivities>({
  startToCloseTimeout: "30 minutes",
  retry: options.retry,
});

/** One evaluation of its own. The workflow id is the evaluation's id. */
export async function evaluationRun(input: EvaluationInput): Promise<void> {
  const shards = input.spec.shards ?? 1;
  if (shards === 1) return await runEvaluation(input);
  await joinEvaluation({ ...input, ...joinOf(await answerShards(input, shards)) });
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
