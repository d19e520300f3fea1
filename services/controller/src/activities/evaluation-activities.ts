import type { EvaluationActivities } from "@drydock/workflows";
import { failForGood, whileWatching } from "./activity-signals.ts";
import type { RunAttemptDependencies } from "./run-attempt.ts";
import { evaluateShard, evaluateWhole, joinOrFail, noteEnd } from "./run-evaluation.ts";

export function createEvaluationActivities(dependencies: RunAttemptDependencies): EvaluationActivities {
  return {
    /** Safe to retry: a worker that runs is taken over, one that is gone is started again, and the api keeps one row. */
    runEvaluation: async (input) =>
      await failForGood(
        async () => await whileWatching(async (signals) => await evaluateWhole(dependencies, input, signals)),
      ),
    /** Safe to retry in the same way. */
    runEvaluationShard: async (input) =>
      await failForGood(
        async () => await whileWatching(async (signals) => await evaluateShard(dependencies, input, signals)),
      ),
    /** Safe to retry: the same rows give the same scores. */
    joinEvaluation: async (input) => await failForGood(async () => await joinOrFail(dependencies, input)),
    /** Safe to retry: one that has succeeded stays so. */
    endEvaluation: async (input) => await noteEnd(dependencies, input),
  };
}
