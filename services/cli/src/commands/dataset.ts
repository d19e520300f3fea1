import { ConflictError, InvalidError } from "@drydock/kit";
import { ImportFormat, Task, type DatasetVersion, type ValidationIssue } from "@drydock/spec";
import type { Command } from "commander";
import type { DrydockClient } from "../client/drydock-client.ts";
import { formatBytes } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf, oneOf, splitReference, wholeNumber, type CommandContext } from "./context.ts";
import { findFiles, sendFiles } from "./dataset-files.ts";
import { everyPage } from "./pages.ts";

interface ImportFlags {
  readonly format?: ImportFormat;
  readonly task?: Task;
  readonly validationShare?: number;
  readonly seed?: number;
  readonly groundingPrompt?: string;
  readonly rejectAll?: boolean;
  readonly wait: boolean;
}

const pollMs = 500;

/** `drydock dataset …`: pictures and answers on the server, in versions that never change. */
export function addDatasetCommands(program: Command): void {
  const dataset = program.command("dataset").description("data sets: create, upload, import, look at");

  dataset
    .command("create")
    .argument("<name>")
    .option("--description <text>", "what the data is", "")
    .description("make an empty data set")
    .action(async function (this: Command, name: string, { description }: { description: string }) {
      const { client, output } = contextOf(this);
      const created = await client().createDataset({ name, description });
      output.answer(created, () => [`Created data set ${created.name}.`]);
    });

  dataset
    .command("upload")
    .argument("<name>")
    .argument("<path>", "folder, archive (.zip, .tar, .tar.gz) or file")
    .description("send files without importing them; the answer's id goes into dataset import")
    .action(async function (this: Command, name: string, path: string) {
      const { client, output } = contextOf(this);
      const upload = await sendFiles(client(), name, await findFiles(path));
      output.answer(upload, () => [
        `Sent ${upload.files} files, ${formatBytes(upload.sizeBytes)}, as upload ${upload.id}.`,
        `Import them: drydock dataset import ${name} ${upload.id}`,
      ]);
    });

  addImportFlags(
    dataset
      .command("import")
      .argument("<name>", "data set; made when it does not exist")
      .argument("<source>", "folder, archive or file; or the id of an upload")
      .description("make the next version: send, check every row, store"),
  ).action(async function (this: Command, name: string, source: string, flags: ImportFlags) {
    await importVersion(contextOf(this), name, source, flags);
  });

  addReadingCommands(dataset);
  addInspection(dataset);
}

function addReadingCommands(dataset: Command): void {
  dataset
    .command("list")
    .description("all data sets, newest first")
    .action(async function (this: Command) {
      const { client, output } = contextOf(this);
      const items = await everyPage((query) => client().listDatasets(query));
      output.answer(items, () =>
        table(
          ["name", "latest", "created", "description"],
          items.map((item) => [item.name, item.latestVersion, item.createdAt, item.description]),
        ),
      );
    });

  dataset
    .command("show")
    .argument("<reference>", "name or name@version")
    .description("a data set with its versions, or one version")
    .action(async function (this: Command, reference: string) {
      const { client, output } = contextOf(this);
      const { name, version } = splitReference(reference);
      if (version !== null) {
        const found = await client().getVersion(name, version);
        output.answer(found, () => describeVersion(found));
        return;
      }
      const found = await client().getDataset(name);
      const versions = await everyPage((query) => client().listVersions(name, query));
      output.answer({ ...found, versions }, () => [
        ...fields({ name: found.name, description: found.description, created: found.createdAt }),
        "",
        ...table(
          ["version", "state", "rows", "train", "validation", "pictures", "created"],
          versions.map((item) => [
            item.version,
            item.state,
            item.statistics?.rows ?? null,
            item.statistics?.trainRows ?? null,
            item.statistics?.validationRows ?? null,
            item.statistics?.images ?? null,
            item.createdAt,
          ]),
        ),
      ]);
    });
}

function addInspection(dataset: Command): void {
  dataset
    .command("report")
    .argument("<reference>", "name or name@version")
    .description("what was found while checking: rows, files and reasons")
    .action(async function (this: Command, reference: string) {
      const { client, output } = contextOf(this);
      const { name, version } = await resolveVersion(client(), reference);
      const report = await client().getReport(name, version);
      output.answer(report, () => [
        `${report.rowsAccepted} of ${report.rowsRead} rows accepted, ${report.errors} errors, ${report.warnings} warnings`,
        ...report.issues.map(describeIssue),
        ...(report.issues.length < report.errors + report.warnings
          ? [`(the first ${report.issues.length} are shown)`]
          : []),
      ]);
    });

  dataset
    .command("preview")
    .argument("<reference>", "name or name@version")
    .option("--limit <number>", "rows to show", wholeNumber("--limit", 1), 10)
    .option("--offset <number>", "rows to skip", wholeNumber("--offset", 0), 0)
    .option("--split <split>", "train or validation", oneOf("--split", ["train", "validation"]))
    .description("rows as they are stored")
    .action(async function (
      this: Command,
      reference: string,
      { limit, offset, split }: { limit: number; offset: number; split?: string },
    ) {
      const { client, output } = contextOf(this);
      const { name, version } = await resolveVersion(client(), reference);
      const page = await client().preview(name, version, { limit, offset, split });
      output.answer(page, () => [
        ...page.rows.flatMap((row) => [
          `${row.rowId}  ${row.split}  ${row.task}  ${row.images.map(({ fileName, width, height }) => `${fileName} (${width}×${height})`).join(", ")}`,
          ...row.messages.map(({ role, content }) => `    ${role}: ${content.replaceAll("\n", " ")}`),
          ...(row.groundings ?? []).map(
            ({ phrase, boxes }) =>
              `    ${phrase}: ${boxes.map((box) => `[${box.map((side) => side.toFixed(3)).join(", ")}]`).join(" ")}`,
          ),
        ]),
        `${page.rows.length} of ${page.total} rows`,
      ]);
    });
}

function addImportFlags(command: Command): Command {
  return command
    .option("--format <format>", `one of ${ImportFormat.options.join(", ")}`, oneOf("--format", ImportFormat.options))
    .option("--task <task>", `one of ${Task.options.join(", ")}`, oneOf("--task", Task.options))
    .option("--validation-share <share>", "0 to 0.9, when the data has no split of its own", share)
    .option("--seed <number>", "of the split", wholeNumber("--seed", 0))
    .option("--grounding-prompt <text>", "question of grounding rows that have none; {phrases} is replaced")
    .option("--reject-all", "refuse the version at the first bad row, instead of leaving bad rows out")
    .option("--no-wait", "do not wait until the import is done");
}

function share(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= 0 && value <= 0.9) return value;
  throw new InvalidError("usage", `--validation-share takes a number from 0 to 0.9, not "${text}"`);
}

async function importVersion(
  { client, output, signal }: CommandContext,
  name: string,
  source: string,
  flags: ImportFlags,
): Promise<void> {
  const uploadId = /^up_[0-9a-z]{20}$/.test(source)
    ? source
    : await upload(client(), name, source, (text) => output.note(text));
  const options = {
    ...(flags.format !== undefined && { format: flags.format }),
    ...(flags.task !== undefined && { task: flags.task }),
    ...(flags.validationShare !== undefined && { validationShare: flags.validationShare }),
    ...(flags.seed !== undefined && { seed: flags.seed }),
    ...(flags.groundingPrompt !== undefined && { groundingPrompt: flags.groundingPrompt }),
    ...(flags.rejectAll === true && { onBadRow: "reject-all" as const }),
  };
  const created = await client().createVersion(name, uploadId, options);
  const version = flags.wait
    ? await waitForVersion(client(), created, signal, (text) => output.status(text, false))
    : created;
  if (version.state === "failed") {
    throw new InvalidError(
      "import_failed",
      `version ${version.version} of ${name} was refused: ${version.reason ?? "see its report"}${version.report === null ? "" : `. Details: drydock dataset report ${name}@${version.version}`}`,
    );
  }
  output.answer(version, () => describeVersion(version));
}

async function upload(
  client: DrydockClient,
  name: string,
  path: string,
  note: (text: string) => void,
): Promise<string> {
  // Before anything is made on the server: a mistyped path leaves nothing behind.
  const parcel = await findFiles(path);
  try {
    await client.createDataset({ name, description: "" });
    note(`Created data set ${name}.`);
  } catch (error) {
    if (!(error instanceof ConflictError)) throw error; // It exists: this becomes its next version.
  }
  const sent = await sendFiles(client, name, parcel);
  note(`Sent ${sent.files} files, ${formatBytes(sent.sizeBytes)}.`);
  return sent.id;
}

/** Waits until a version is ready or failed, or Ctrl-C. */
async function waitForVersion(
  client: DrydockClient,
  version: DatasetVersion,
  signal: AbortSignal,
  status: (text: string) => void,
): Promise<DatasetVersion> {
  let current = version;
  while (current.state === "validating" && !signal.aborted) {
    status(`checking version ${current.version} of ${current.dataset} …`);
    await new Promise((resolve) => setTimeout(resolve, pollMs));
    current = await client.getVersion(current.dataset, current.version);
  }
  return current;
}

/** The version that a reference names, or the newest. @throws InvalidError when the data set has none */
async function resolveVersion(client: DrydockClient, reference: string): Promise<{ name: string; version: number }> {
  const { name, version } = splitReference(reference);
  if (version !== null) return { name, version };
  const { latestVersion } = await client.getDataset(name);
  if (latestVersion === null)
    throw new InvalidError(
      "no_version",
      `data set ${name} has no version yet: drydock dataset import ${name} <folder>`,
    );
  return { name, version: latestVersion };
}

function describeVersion({ dataset, version, state, reason, statistics, report, digest }: DatasetVersion): string[] {
  return fields({
    version: `${dataset}@${version}`,
    state: reason === null ? state : `${state}: ${reason}`,
    rows:
      statistics === null
        ? null
        : `${statistics.rows} (${statistics.trainRows} train, ${statistics.validationRows} validation)`,
    pictures: statistics?.images,
    boxes: statistics?.boxes,
    tasks:
      statistics === null
        ? null
        : Object.entries(statistics.tasks)
            .map(([task, count]) => `${task} ${count}`)
            .join(", "),
    checked:
      report === null
        ? null
        : `${report.rowsAccepted} of ${report.rowsRead} rows accepted, ${report.errors} errors, ${report.warnings} warnings`,
    digest: digest?.slice(0, 16),
  });
}

function describeIssue({ severity, file, row, path, message }: ValidationIssue): string {
  const place = [file, row === null ? null : `row ${row}`, path]
    .filter((part) => part !== null && part !== "")
    .join(", ");
  return `${severity.padEnd(8)} ${message.includes(file) ? "" : `${place}: `}${message}`;
}
