import { proxyActivities } from "@temporalio/workflow";
import type { DatasetInput } from "@drydock/spec";
import type { DatasetActivities } from "./activities.ts";

// Importing again writes the same version, so a retry is safe; what the data itself got wrong ends in a report, not in a retry.
const { importDataset } = proxyActivities<DatasetActivities>({
  startToCloseTimeout: "6 hours",
  heartbeatTimeout: "1 minute",
  retry: { initialInterval: "1 second", maximumInterval: "30 seconds" },
});

/** Unpacks, validates, splits and stores one data-set version. The workflow id is the version's id. */
export async function dataset(input: DatasetInput): Promise<void> {
  await importDataset(input);
}
