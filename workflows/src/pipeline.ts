import { ActivityFailure, proxyActivities } from "@temporalio/workflow";
import type { PipelineActivities } from "./activities.ts";

// Where a run stands lies in the api's database, so one activity that is tried again for ever carries it to its end.
const { runPipeline } = proxyActivities<PipelineActivities>({
  startToCloseTimeout: "365 days",
  heartbeatTimeout: "15 seconds",
  retry: { initialInterval: "1 second", maximumInterval: "15 seconds" },
});
const { failPipeline } = proxyActivities<PipelineActivities>({
  startToCloseTimeout: "1 hour",
  retry: { initialInterval: "1 second", maximumInterval: "30 seconds" },
});

/** One run of a pipeline, from its trigger to its end. The workflow id is the run's id. */
export async function pipeline({ pipelineRunId }: { readonly pipelineRunId: string }): Promise<void> {
  try {
    await runPipeline({ pipelineRunId });
  } catch (error) {
    // Only what no retry can mend gets here; nobody must find the run open for ever.
    if (!(error instanceof ActivityFailure)) throw error;
    await failPipeline({ pipelineRunId, message: `the run cannot go on: ${rootMessage(error)}` });
  }
}

function rootMessage(error: Error): string {
  return error.cause instanceof Error ? rootMessage(error.cause) : error.message;
}
