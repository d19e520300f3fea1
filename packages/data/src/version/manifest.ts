import { z } from "zod";
import { ConflictError, InvalidError, NotFoundError, canonicalJson, type ObjectStorage } from "@drydock/kit";
import { DatasetStatistics, ImportFormat, ImportOptions, ValidationReport } from "@drydock/spec";
import { datasetKeys } from "./layout.ts";

/** What `manifest.json` of a version holds. */
export const DatasetManifest = z.object({
  schema: z.literal(1),
  datasetId: z.string(),
  version: z.int().positive(),
  /** Over the content of all records in order: equal content, splits included, gives an equal digest in any data set. */
  digest: z.string(),
  format: ImportFormat,
  formatReason: z.string(),
  options: ImportOptions,
  recordsSha256: z.string(),
  statistics: DatasetStatistics,
});
export type DatasetManifest = z.infer<typeof DatasetManifest>;

/** What an import comes to. */
export interface ImportedVersion {
  readonly statistics: DatasetStatistics;
  readonly report: ValidationReport;
  readonly digest: string;
  readonly recordsKey: string;
}

/**
 * A version that is complete; null when there is none yet.
 *
 * @throws ConflictError `version_exists` when it was imported with other options
 */
export async function findVersion(
  storage: ObjectStorage,
  datasetId: string,
  version: number,
  options: ImportOptions,
): Promise<ImportedVersion | null> {
  const manifest = await readManifest(storage, datasetId, version);
  if (manifest === null) return null;
  if (canonicalJson(manifest.options) !== canonicalJson(options))
    throw new ConflictError(
      "version_exists",
      `version ${version} of data set ${datasetId} was imported with other options, and a version never changes: import a new one`,
    );
  const report = ValidationReport.parse(
    JSON.parse(Buffer.from(await storage.get(datasetKeys.report(datasetId, version))).toString("utf8")),
  );
  return {
    statistics: manifest.statistics,
    digest: manifest.digest,
    report,
    recordsKey: datasetKeys.records(datasetId, version),
  };
}

/** The manifest of a version; null when the version is not complete. @throws InvalidError `bad_manifest` */
export async function readManifest(
  storage: ObjectStorage,
  datasetId: string,
  version: number,
): Promise<DatasetManifest | null> {
  const key = datasetKeys.manifest(datasetId, version);
  let text: string;
  try {
    text = Buffer.from(await storage.get(key)).toString("utf8");
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    throw error;
  }
  try {
    return DatasetManifest.parse(JSON.parse(text));
  } catch (error) {
    throw new InvalidError(
      "bad_manifest",
      `${key} is not a manifest that this version of Drydock reads: import the data set again`,
      { cause: error },
    );
  }
}
