import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { importVersion } from "@drydock/data";
import { isDrydockError, messageOf } from "@drydock/kit";
import type { DatasetInput } from "@drydock/spec";
import type { DatasetActivities } from "@drydock/workflows";
import { beating } from "./beating.ts";
import type { RunDependencies } from "./run-activities.ts";

/** @see DatasetActivities */
export function createDatasetActivities({ api, storage, stateDirectory }: Pick<RunDependencies, "api" | "storage" | "stateDirectory">): DatasetActivities {
  return {
    /** Safe to retry: pictures are stored by content, the records under the version's number. */
    async importDataset(input) {
      const folder = join(stateDirectory, "imports", input.versionId);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      try {
        await beating(async (signal) => await importUpload(input, folder, signal));
      } finally {
        await rm(folder, { recursive: true, force: true });
      }
    },
  };

  async function importUpload(input: DatasetInput, folder: string, signal: AbortSignal): Promise<void> {
    const { dataset, version } = input;
    try {
      const path = await fetchUpload(input.uploadKey, join(folder, "upload"));
      const result = await importVersion({ path, options: input.options, storage, datasetId: input.datasetId, version, signal, workDirectory: folder });
      const isEmpty = result.report.rowsAccepted === 0;
      await api.putDatasetVersion(dataset, version, {
        state: isEmpty ? "failed" : "ready",
        reason: isEmpty ? (result.report.issues[0]?.message ?? "no row could be used") : null,
        digest: result.digest,
        statistics: result.statistics,
        report: result.report,
      });
    } catch (error) {
      if (!isDrydockError(error) || error.isRetryable) throw error;
      await api.putDatasetVersion(dataset, version, { state: "failed", reason: messageOf(error), digest: null, statistics: null, report: null });
    }
  }

  /** Copies the upload below `folder`; answers the path of the one archive, or of the folder of files. */
  async function fetchUpload(uploadKey: string, folder: string): Promise<string> {
    const prefix = uploadKey.endsWith("/") ? uploadKey : `${uploadKey}/`;
    const names: string[] = [];
    for await (const { key } of storage.list(prefix)) {
      const name = key.slice(prefix.length);
      await storage.getFile(key, join(folder, name));
      names.push(name);
    }
    const [only] = names;
    if (names.length === 1 && only !== undefined && /\.(zip|tar|tar\.gz|tgz)$/i.test(only)) return join(folder, only);
    return folder;
  }
}
