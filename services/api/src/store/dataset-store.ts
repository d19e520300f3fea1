import { ConflictError, NotFoundError, newId } from "@drydock/kit";
import type {
  Dataset,
  DatasetStatistics,
  DatasetVersion,
  DatasetVersionUpdate,
  ImportOptions,
  ValidationReport,
} from "@drydock/spec";
import { and, desc, eq, getTableColumns, lt, sql } from "drizzle-orm";
import { decodeCursor, decodeNumberCursor, pageFrom, type Page } from "../pages.ts";
import { emitEvent } from "./emit-event.ts";
import type { Database } from "./database.ts";
import { isUniqueViolation } from "./database-errors.ts";
import { datasets, datasetVersions, uploads } from "./schema.ts";

type DatasetRow = typeof datasets.$inferSelect;
/** All of a version but its long lists, which few readers want. */
const versionColumns = {
  ...getTableColumns(datasetVersions),
  statistics: sql<DatasetVersion["statistics"]>`${datasetVersions.statistics} - 'samples'`,
  report: sql<DatasetVersion["report"]>`${datasetVersions.report} - 'issues'`,
};
type VersionRow = Omit<typeof datasetVersions.$inferSelect, "statistics" | "report"> &
  Pick<DatasetVersion, "statistics" | "report">;

export interface ListPage {
  readonly limit: number;
  readonly cursor?: string | undefined;
}

/** A version that training may use. */
export interface ReadyVersion {
  readonly datasetId: string;
  readonly versionId: string;
  readonly version: number;
}

export function datasetNotFound(name: string): NotFoundError {
  const message = `there is no data set "${name}": make it with POST /v1/datasets, or list them with GET /v1/datasets`;
  return new NotFoundError("dataset_not_found", message, {
    details: [{ path: "dataset", code: "dataset_not_found", message }],
  });
}

function versionNotFound(name: string, version: number | string): NotFoundError {
  const message = `data set "${name}" has no version ${version}: list them with GET /v1/datasets/${name}/versions`;
  return new NotFoundError("dataset_version_not_found", message, {
    details: [{ path: "dataset", code: "dataset_version_not_found", message }],
  });
}

/** Data sets, their uploads and their versions. */
export class DatasetStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** @throws ConflictError `dataset_exists` */
  async insert(name: string, description: string): Promise<Dataset> {
    try {
      const [row] = await this.#database.transaction(
        async (tx) =>
          await tx
            .insert(datasets)
            .values({ id: newId("dataset"), name, description })
            .returning(),
      );
      return toDataset(row!);
    } catch (error) {
      if (!isUniqueViolation(error)) throw error;
      const message = `a data set named "${name}" is already there: use it, or choose another name`;
      throw new ConflictError("dataset_exists", message, {
        details: [{ path: "name", code: "dataset_exists", message }],
      });
    }
  }

  async list(page: ListPage): Promise<Page<Dataset>> {
    const before = decodeCursor(page.cursor);
    const rows = await this.#database
      .select()
      .from(datasets)
      .where(before === null ? undefined : lt(datasets.id, before))
      .orderBy(desc(datasets.id))
      .limit(page.limit + 1);
    return pageFrom(rows, page.limit, toDataset, (row) => row.id);
  }

  /** @throws NotFoundError `dataset_not_found` */
  async get(name: string): Promise<Dataset> {
    return toDataset(await this.#row(name));
  }

  async insertUpload(upload: {
    readonly id: string;
    readonly datasetId: string;
    readonly files: number;
    readonly sizeBytes: number;
  }): Promise<{ createdAt: string }> {
    const [row] = await this.#database.insert(uploads).values(upload).returning();
    return { createdAt: row!.createdAt.toISOString() };
  }

  /**
   * The next version of a data set, made from an upload, in state `validating`.
   *
   * @throws NotFoundError `dataset_not_found` or `upload_not_found`
   */
  async insertVersion(
    name: string,
    uploadId: string,
    options: ImportOptions,
  ): Promise<{ version: DatasetVersion; datasetId: string }> {
    return await this.#database.transaction(async (tx) => {
      const [dataset] = await tx
        .update(datasets)
        .set({ latestVersion: sql`${datasets.latestVersion} + 1`, updatedAt: new Date() })
        .where(eq(datasets.name, name))
        .returning();
      if (dataset === undefined) throw datasetNotFound(name);
      const [upload] = await tx
        .select()
        .from(uploads)
        .where(and(eq(uploads.id, uploadId), eq(uploads.datasetId, dataset.id)));
      if (upload === undefined) {
        const message = `data set "${name}" has no upload "${uploadId}": send the files to POST /v1/datasets/${name}/uploads and use the id it answers with`;
        throw new NotFoundError("upload_not_found", message, {
          details: [{ path: "uploadId", code: "upload_not_found", message }],
        });
      }
      const values = {
        id: newId("datasetVersion"),
        datasetId: dataset.id,
        version: dataset.latestVersion,
        state: "validating" as const,
        options,
        uploadId,
      };
      const [row] = await tx.insert(datasetVersions).values(values).returning();
      return { version: toVersion(row!, name), datasetId: dataset.id };
    });
  }

  async listVersions(name: string, page: ListPage): Promise<Page<DatasetVersion>> {
    const dataset = await this.#row(name);
    const before = page.cursor === undefined ? null : decodeNumberCursor(page.cursor);
    const rows = await this.#database
      .select(versionColumns)
      .from(datasetVersions)
      .where(
        and(
          eq(datasetVersions.datasetId, dataset.id),
          before === null ? undefined : lt(datasetVersions.version, before),
        ),
      )
      .orderBy(desc(datasetVersions.version))
      .limit(page.limit + 1);
    return pageFrom(
      rows,
      page.limit,
      (row) => toVersion(row, name),
      (row) => row.version,
    );
  }

  /** @throws NotFoundError `dataset_not_found` or `dataset_version_not_found` */
  async getVersion(name: string, version: number): Promise<DatasetVersion> {
    return toVersion(await this.#versionRow(name, version), name);
  }

  /** The report with its issues; null while the version is being checked. */
  async getReport(name: string, version: number): Promise<ValidationReport | null> {
    const { id } = await this.#versionRow(name, version);
    const [row] = await this.#database
      .select({ report: datasetVersions.report })
      .from(datasetVersions)
      .where(eq(datasetVersions.id, id));
    return row?.report ?? null;
  }

  /** Where the files of a version lie. */
  async locate(name: string, version: number): Promise<{ datasetId: string; state: VersionRow["state"] }> {
    const { datasetId, state } = await this.#versionRow(name, version);
    return { datasetId, state };
  }

  /** Writes the outcome of an import; the same outcome twice is the same. A version that is ready stays as it is. */
  async updateVersion(name: string, version: number, update: DatasetVersionUpdate): Promise<void> {
    const row = await this.#versionRow(name, version);
    if (row.state === "ready") return;
    await this.#database
      .update(datasetVersions)
      .set({ ...update, updatedAt: new Date() })
      .where(eq(datasetVersions.id, row.id));
    const { state, reason } = update;
    if (state !== row.state && (state === "ready" || state === "failed"))
      await emitEvent(this.#database, { type: `dataset.${state}`, data: { dataset: name, version, state, reason } });
  }

  /**
   * The version that `name@3` or `name` (the newest ready one) stands for.
   *
   * @throws NotFoundError `dataset_not_found`, `dataset_version_not_found`
   * @throws ConflictError `dataset_not_ready` while it is being checked, or when its import failed
   */
  async resolve(reference: string): Promise<ReadyVersion> {
    const [name = "", number] = reference.split("@");
    const row = number === undefined ? await this.#newestReady(name) : await this.#versionRow(name, Number(number));
    if (row.state !== "ready") {
      const remedy =
        row.state === "validating"
          ? "wait until it is ready"
          : `its import failed (${row.reason ?? "see its report"}): upload it again, corrected`;
      const message = `version ${row.version} of data set "${name}" is ${row.state}: ${remedy}`;
      throw new ConflictError("dataset_not_ready", message, {
        details: [{ path: "dataset", code: "dataset_not_ready", message }],
      });
    }
    return { datasetId: row.datasetId, versionId: row.id, version: row.version };
  }

  /** What the planner needs to know of a version, samples included: up to a megabyte. */
  async statisticsOf(versionId: string): Promise<DatasetStatistics | null> {
    const { statistics } = datasetVersions;
    const [row] = await this.#database
      .select({ statistics })
      .from(datasetVersions)
      .where(eq(datasetVersions.id, versionId));
    return row?.statistics ?? null;
  }

  async #newestReady(name: string): Promise<VersionRow> {
    const dataset = await this.#row(name);
    const newest = async (isReady: boolean) =>
      await this.#database
        .select(versionColumns)
        .from(datasetVersions)
        .where(and(eq(datasetVersions.datasetId, dataset.id), isReady ? eq(datasetVersions.state, "ready") : undefined))
        .orderBy(desc(datasetVersions.version))
        .limit(1);
    const row = (await newest(true))[0] ?? (await newest(false))[0];
    if (row === undefined) throw versionNotFound(name, "yet");
    return row;
  }

  async #row(name: string): Promise<DatasetRow> {
    const [row] = await this.#database.select().from(datasets).where(eq(datasets.name, name));
    if (row === undefined) throw datasetNotFound(name);
    return row;
  }

  async #versionRow(name: string, version: number): Promise<VersionRow> {
    const dataset = await this.#row(name);
    const [row] = await this.#database
      .select(versionColumns)
      .from(datasetVersions)
      .where(and(eq(datasetVersions.datasetId, dataset.id), eq(datasetVersions.version, version)));
    if (row === undefined) throw versionNotFound(name, version);
    return row;
  }
}

function toDataset(row: DatasetRow): Dataset {
  const { latestVersion, createdAt, updatedAt, ...rest } = row;
  return {
    ...rest,
    latestVersion: latestVersion === 0 ? null : latestVersion,
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString(),
  };
}

function toVersion(row: VersionRow, dataset: string): DatasetVersion {
  const { id, version, state, reason, options, digest, statistics, report } = row;
  return {
    id,
    dataset,
    version,
    state,
    reason,
    options,
    digest,
    statistics,
    report,
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}
