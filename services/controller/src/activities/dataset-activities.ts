import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { datasetKeys, importVersion } from "@drydock/data";
import { NotFoundError, isDrydockError, type Logger, type ObjectStorage } from "@drydock/kit";
import { ValidationReport, type DatasetInput, type DatasetVersionUpdate } from "@drydock/spec";
import type { DatasetActivities } from "@drydock/workflows";
import type { InternalApi } from "../internal-api.ts";
import { failForGood, whileWatching } from "./activity-signals.ts";

export interface DatasetDependencies {
  readonly api: Pick<InternalApi, "putDatasetVersion">;
  readonly storage: ObjectStorage;
  /** For uploads under way; emptied at the end. */
  readonly workDirectory: string;
  readonly logger: Logger;
}

export function createDatasetActivities(dependencies: DatasetDependencies): DatasetActivities {
  const { api, logger } = dependencies;
  return {
    /** Safe to retry: importing the same upload writes the same version, and one that is complete is answered as it is. */
    importDataset: async (input) =>
      await whileWatching(async ({ stop, abandon }) => {
        const update = await importOutcome(dependencies, input, AbortSignal.any([stop, abandon]));
        logger.info({ dataset: input.dataset, version: input.version, state: update.state }, "data set imported");
        await failForGood(async () => await api.putDatasetVersion(input.dataset, input.version, update));
      }),
  };
}

/** What is wrong with the data is an answer, not an error: the version failed, and the reason says why. */
export async function importOutcome(
  { storage, workDirectory }: Pick<DatasetDependencies, "storage" | "workDirectory">,
  input: DatasetInput,
  signal: AbortSignal,
): Promise<DatasetVersionUpdate> {
  await mkdir(workDirectory, { recursive: true });
  const work = await mkdtemp(join(workDirectory, "upload-"));
  try {
    const path = await download(storage, input.uploadKey, work);
    const { digest, statistics, report } = await importVersion({
      path,
      storage,
      signal,
      options: input.options,
      datasetId: input.datasetId,
      version: input.version,
      workDirectory: work,
    });
    return { state: "ready", reason: null, digest, statistics, report };
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    const report = await reportOfFailure(storage, input);
    return { state: "failed", reason: error.message, digest: null, statistics: null, report };
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The report that an import left which found nothing usable: it names the rows. Null when it did not get that far. */
async function reportOfFailure(
  storage: ObjectStorage,
  { datasetId, version }: DatasetInput,
): Promise<ValidationReport | null> {
  try {
    return ValidationReport.parse(
      JSON.parse(Buffer.from(await storage.get(datasetKeys.report(datasetId, version))).toString()),
    );
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
}

/** Copies an upload to this machine: a single file as it is (an archive, or a file of rows), several as a folder. */
async function download(storage: ObjectStorage, uploadKey: string, work: string): Promise<string> {
  const prefix = uploadKey.endsWith("/") ? uploadKey : `${uploadKey}/`;
  const folder = join(work, "files");
  const paths: string[] = [];
  for await (const { key } of storage.list(prefix)) {
    const path = join(folder, ...key.slice(prefix.length).split("/"));
    await mkdir(dirname(path), { recursive: true });
    await storage.getFile(key, path);
    paths.push(path);
  }
  const [only] = paths;
  if (only === undefined)
    throw new NotFoundError("upload_gone", "the upload holds no files any more: upload the data again");
  return paths.length === 1 && isArchive(only) ? only : folder;
}

function isArchive(path: string): boolean {
  return /\.(?:zip|tar|tar\.gz|tgz)$/i.test(path);
}
