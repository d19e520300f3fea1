import { mkdtemp, open, rm, stat, type FileHandle } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { canonicalJson, InvalidError, NotFoundError, UnavailableError, type ObjectStorage } from "@drydock/kit";
import { dataMinimums, type DataRecord, type DatasetStatistics, type ImportOptions } from "@drydock/spec";
import type { ArchiveLimits } from "../archive/archive-guard.ts";
import { unpackArchive } from "../archive/unpack-archive.ts";
import { DatasetFolder } from "../importers/dataset-folder.ts";
import { detectFormat, type DetectedFormat } from "../importers/detect-format.ts";
import { importers } from "../importers/importers.ts";
import { assignSplits, type AssignedSplits, type SplittableRow } from "../split/assign-splits.ts";
import { readLines } from "../text-lines.ts";
import { defaultImageLimits, type ImageLimits } from "../validation/inspect-image.ts";
import { ReportBuilder } from "../validation/report-builder.ts";
import { contentDigest, ImageStore, lineHasher } from "./image-store.ts";
import { datasetKeys } from "./layout.ts";
import { findVersion, type DatasetManifest, type ImportedVersion } from "./manifest.ts";
import { acceptRows, issueOf, type AcceptedRow } from "./read-rows.ts";
import { StatisticsBuilder } from "./statistics.ts";

export interface ImportProgress {
  readonly phase: "unpacking" | "reading" | "writing";
  readonly rowsRead: number;
  readonly rowsAccepted: number;
  readonly images: number;
}

export interface ImportVersionInput {
  /** A folder with pictures and annotations, or an archive of one (`.zip`, `.tar`, `.tar.gz`). */
  readonly path: string;
  readonly options: ImportOptions;
  readonly storage: ObjectStorage;
  readonly datasetId: string;
  readonly version: number;
  readonly signal?: AbortSignal;
  /** Called about every hundred rows, and between phases. */
  readonly onProgress?: (progress: ImportProgress) => void;
  /** Where unpacked archives and the records under way go; removed at the end. Default: the system's temporary folder. */
  readonly workDirectory?: string;
  readonly archiveLimits?: Partial<ArchiveLimits>;
  readonly imageLimits?: Partial<ImageLimits>;
  /** Rows opened side by side. */
  readonly concurrency?: number;
}

const progressEveryRows = 100;

/**
 * Imports a data set: unpacks, finds the format, reads and checks every row, opens every picture, splits, and writes the
 * version (images by content, `records.jsonl`, `report.json`, `manifest.json` last).
 *
 * Safe to retry: the same input writes the same bytes to the same keys, and a version whose manifest is there is answered
 * as it is. Memory holds a few rows and pictures at a time and about 200 bytes per row.
 *
 * @throws InvalidError `format_unknown`, `format_ambiguous`, `bad_row` (under `reject-all`), `no_usable_rows` (the report
 *   is written all the same), those of `unpackArchive`; NotFoundError `path_not_found`; ConflictError `version_exists`;
 *   UnavailableError of the storage; the signal's reason when aborted
 */
export async function importVersion(input: ImportVersionInput): Promise<ImportedVersion> {
  const done = await findVersion(input.storage, input.datasetId, input.version, input.options);
  if (done) return done;
  const work = await mkdtemp(join(input.workDirectory ?? tmpdir(), "drydock-import-"));
  try {
    const folder = await openFolder(input, work);
    return await importFolder(input, folder, join(work, "records"));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC")
      throw new UnavailableError("disk_full", `the disk is full at ${work}: free space and try again`, {
        cause: error,
      });
    throw error;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function openFolder(input: ImportVersionInput, work: string): Promise<DatasetFolder> {
  const { path, signal, archiveLimits } = input;
  const status = await stat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === "ENOENT")
      throw new NotFoundError("path_not_found", `there is no file or folder ${path}`, { cause: error });
    throw error;
  });
  if (status.isDirectory()) return await DatasetFolder.open(path);
  input.onProgress?.({ phase: "unpacking", rowsRead: 0, rowsAccepted: 0, images: 0 });
  const unpacked = join(work, "unpacked");
  await unpackArchive(path, unpacked, {
    ...(signal ? { signal } : {}),
    ...(archiveLimits ? { limits: archiveLimits } : {}),
  });
  return await DatasetFolder.open(unpacked);
}

/** A record before its split is known. */
type Candidate = Omit<DataRecord, "split">;

async function importFolder(
  input: ImportVersionInput,
  folder: DatasetFolder,
  workPath: string,
): Promise<ImportedVersion> {
  const { storage, datasetId, version, options } = input;
  const detected: DetectedFormat =
    options.format === "auto" ? await detectFormat(folder) : { format: options.format, reason: "as asked for" };
  const report = new ReportBuilder();
  const candidates = `${workPath}.candidates`;
  const rows = await writeCandidates(input, folder, detected, report, candidates);
  if (rows.length === 0) await refuseEmpty(input, detected, report);
  const assigned = assignSplits(rows, options.validationShare, options.seed);
  input.onProgress?.({ phase: "writing", rowsRead: report.rowsRead, rowsAccepted: report.rowsAccepted, images: 0 });
  const recordsPath = `${workPath}.jsonl`;
  const { statistics, digest, recordsSha256 } = await writeRecords(
    candidates,
    recordsPath,
    assigned,
    report,
    input.signal,
  );
  adviseOnSize(statistics, report);
  const manifest: DatasetManifest = {
    schema: 1,
    datasetId,
    version,
    digest,
    format: detected.format,
    formatReason: detected.reason,
    options,
    recordsSha256,
    statistics,
  };
  const finished = report.build();
  input.signal?.throwIfAborted();
  await storage.putFile(datasetKeys.records(datasetId, version), recordsPath);
  await storage.put(datasetKeys.report(datasetId, version), canonicalJson(finished));
  await storage.put(datasetKeys.manifest(datasetId, version), canonicalJson(manifest));
  return { statistics, report: finished, digest, recordsKey: datasetKeys.records(datasetId, version) };
}

/** First pass: good rows to a work file, one line each. */
async function writeCandidates(
  input: ImportVersionInput,
  folder: DatasetFolder,
  { format }: DetectedFormat,
  report: ReportBuilder,
  path: string,
): Promise<SplittableRow[]> {
  const { options, signal, onProgress } = input;
  const images = new ImageStore(folder, input.storage, input.datasetId, {
    ...defaultImageLimits,
    ...input.imageLimits,
  });
  const concurrency = input.concurrency ?? Math.max(4, 2 * availableParallelism());
  const seen = new Map<string, { count: number; file: string; row: number }>();
  const rows: SplittableRow[] = [];
  await writeLines(path, async function* () {
    for await (const accepted of acceptRows(
      untilAborted(importers[format](folder, options), signal),
      images,
      report,
      options,
      concurrency,
    )) {
      signal?.throwIfAborted();
      const candidate = toCandidate(accepted, seen, report);
      rows.push({ keys: splitKeys(candidate), own: accepted.source.split });
      report.rowsAccepted += 1;
      if (report.rowsAccepted % progressEveryRows === 1)
        onProgress?.({
          phase: "reading",
          rowsRead: report.rowsRead,
          rowsAccepted: report.rowsAccepted,
          images: images.count,
        });
      yield JSON.stringify(candidate);
    }
  });
  signal?.throwIfAborted();
  return rows;
}

async function* untilAborted<Item>(items: AsyncIterable<Item>, signal: AbortSignal | undefined): AsyncIterable<Item> {
  for await (const item of items) {
    signal?.throwIfAborted();
    yield item;
  }
}

function splitKeys(candidate: Candidate): string[] {
  return candidate.images.length > 0 ? candidate.images.map(({ sha256 }) => sha256) : [candidate.rowId.slice(0, 16)];
}

function toCandidate(
  { source, checked, images }: AcceptedRow,
  seen: Map<string, { count: number; file: string; row: number }>,
  report: ReportBuilder,
): Candidate {
  const { task, messages, groundings } = checked;
  const digest = contentDigest(
    canonicalJson({ task, messages, groundings, images: images.map(({ sha256 }) => sha256) }),
  );
  const earlier = seen.get(digest);
  if (earlier) {
    earlier.count += 1;
    report.add(
      issueOf(source, "warning", {
        code: "duplicate_row",
        path: null,
        message: `the row is the same as ${earlier.file}, row ${earlier.row}; it is kept and counts twice in training. Remove it unless that is wanted`,
      }),
    );
  } else seen.set(digest, { count: 0, file: source.file, row: source.row });
  return {
    rowId: earlier ? `${digest}-${earlier.count}` : digest,
    task,
    source: { file: source.file, row: source.row },
    images: [...images],
    messages,
    ...(groundings ? { groundings } : {}),
    // Not part of the row's id: who tags a row later still finds it in older evaluations.
    ...(source.tags ? { tags: [...source.tags] } : {}),
  };
}

/** Second pass: every row with its split, the statistics and the digest. */
async function writeRecords(
  candidates: string,
  path: string,
  assigned: AssignedSplits,
  report: ReportBuilder,
  signal: AbortSignal | undefined,
): Promise<{ statistics: DatasetStatistics; digest: string; recordsSha256: string }> {
  const statistics = new StatisticsBuilder(assigned.splits.length);
  const content = lineHasher();
  const lines = lineHasher();
  const moved = new Set(assigned.moved);
  await writeLines(path, async function* () {
    let index = 0;
    for await (const { text } of readLines(candidates, "work file")) {
      signal?.throwIfAborted();
      const { rowId, ...rest } = JSON.parse(text) as Candidate;
      const record: DataRecord = { rowId, split: assigned.splits[index] ?? "train", ...rest };
      if (moved.has(index))
        report.add(issueOf({ file: record.source.file, row: record.source.row }, "warning", leaked(record)));
      statistics.add(record);
      content.add(canonicalJson({ ...record, images: record.images.map(({ sha256 }) => sha256), source: null }));
      const line = JSON.stringify(record);
      lines.add(line);
      index += 1;
      yield line;
    }
  });
  return { statistics: statistics.build(), digest: content.digest(), recordsSha256: lines.digest() };
}

function leaked(record: DataRecord): { code: string; path: string; message: string } {
  const name = record.images.map(({ fileName }) => fileName).join(", ") || "its text";
  return {
    code: "picture_in_two_splits",
    path: name,
    message: `${name} is also in the training split; the row is moved from validation to train, so that the score stays honest. Give validation pictures of its own`,
  };
}

function adviseOnSize(statistics: DatasetStatistics, report: ReportBuilder): void {
  const warn = (code: string, message: string): void =>
    report.add({ severity: "warning", code, file: "data set", row: null, path: null, message });
  const needsPictures = Object.keys(statistics.tasks).some((task) => task !== "chat") || statistics.images > 0;
  const isBelow = (minimum: { images: number; pairs: number }): boolean =>
    (needsPictures && statistics.images < minimum.images) || statistics.pairs < minimum.pairs;
  const has = `the data set has ${statistics.images} pictures and ${statistics.pairs} pairs`;
  const { refused, warned, production } = dataMinimums;
  if (isBelow(refused))
    warn(
      "data_below_minimum",
      `${has}; runs need at least ${refused.images} pictures and ${refused.pairs} pairs. Add data, or set allowSmall in the run`,
    );
  else if (isBelow(warned))
    warn(
      "data_small",
      `${has}: enough to try, little to rely on. From ${warned.images} pictures and ${warned.pairs} pairs results settle`,
    );
  else if (isBelow(production))
    warn(
      "data_below_production",
      `${has}; for production use aim at ${production.images} pictures and ${production.pairs} pairs`,
    );
  if (statistics.validationRows === 0)
    warn(
      "no_validation_rows",
      "no row is in the validation split, so no score can be measured: raise validationShare, or mark rows for validation",
    );
  if (statistics.trainRows === 0)
    warn(
      "no_training_rows",
      "every row is in the validation split, so there is nothing to train on: lower validationShare, or mark rows for training",
    );
}

async function refuseEmpty(
  { storage, datasetId, version }: ImportVersionInput,
  { format, reason }: DetectedFormat,
  report: ReportBuilder,
): Promise<never> {
  const finished = report.build();
  await storage.put(datasetKeys.report(datasetId, version), canonicalJson(finished));
  const first = finished.issues.find(({ severity }) => severity === "error");
  const details = finished.issues.filter(({ severity }) => severity === "error").slice(0, 20);
  throw new InvalidError(
    "no_usable_rows",
    `none of ${finished.rowsRead} rows can be used (format ${format}: ${reason})${first ? `. The first problem: ${first.message}` : ". Check that the annotation files hold rows"}`,
    {
      details: details.map(({ file, row, code, message }) => ({
        path: row === null ? file : `${file}, row ${row}`,
        code,
        message,
      })),
    },
  );
}

async function writeLines(path: string, lines: () => AsyncIterable<string>): Promise<void> {
  const handle: FileHandle = await open(path, "w");
  try {
    let waiting: string[] = [];
    let waitingCharacters = 0;
    for await (const line of lines()) {
      waiting.push(line, "\n");
      waitingCharacters += line.length;
      if (waitingCharacters < 2 ** 20) continue;
      await handle.write(waiting.join(""));
      waiting = [];
      waitingCharacters = 0;
    }
    if (waiting.length > 0) await handle.write(waiting.join(""));
  } finally {
    await handle.close();
  }
}
