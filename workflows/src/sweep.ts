import { ActivityFailure, proxyActivities } from "@temporalio/workflow";
import type { SweepActivities } from "./activities.ts";

// All that a sweep has decided lies in the api's database, so one activity that is tried again for ever carries it to its end.
const { runSweep } = proxyActivities<SweepActivities>({
  startToCloseTimeout: "365 days",
  heartbeatTimeout: "15 seconds",
  retry: { initialInterval: "1 second", maximumInterval: "15 seconds" },
});
const { failSweep } = proxyActivities<SweepActivities>({
  startToCloseTimeout: "1 hour",
  retry: { initialInterval: "1 second", maximumInterval: "30 seconds" },
});

/** One sweep, from its first trial to its best. The workflow id is the sweep's id; its trials are runs with workflows of their own. */
export async function sweep({ sweepId }: { readonly sweepId: string }): Promise<void> {
  try {
    await runSweep({ sweepId });
  } catch (error) {
    // Only what no retry can mend gets here; nobody must find the sweep running for ever.
    if (!(error instanceof ActivityFailure)) throw error;
    await failSweep({ sweepId, message: `the sweep cannot go on: ${rootMessage(error)}` });
  }
}

function rootMessage(error: Error): string {
  return error.cause instanceof Error ? rootMessage(error.cause) : error.message;
}
