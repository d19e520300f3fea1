import { proxyActivities } from "@temporalio/workflow";
import type { EvaluationInput } from "@drydock/spec";
import type { EvaluationActivities } from "./activities.ts";

const { runEvaluation } = proxyActivities<EvaluationActivities>({
  startToCloseTimeout: "7 days",
  heartbeatTimeout: "15 seconds",
  retry: { initialInterval: "1 second", maximumInterval: "30 seconds" },
});

/** One evaluation of its own. The workflow id is the evaluation's id. */
export async function evaluationRun(input: EvaluationInput): Promise<void> {
  await runEvaluation(input);
}
