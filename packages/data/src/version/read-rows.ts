import { InvalidError } from "@drydock/kit";
import type { ImportOptions, RecordImage } from "@drydock/spec";
import { isTestPath, type SourceIssue, type SourceItem, type SourceRow } from "../importers/source-row.ts";
import { checkRow, type CheckedRow } from "../validation/check-row.ts";
import type { RowProblem } from "../validation/row-problem.ts";
import type { ReportBuilder } from "../validation/report-builder.ts";
import type { ImageStore, OpenedImage, OpenResult } from "./image-store.ts";
import { mapInOrder } from "./map-in-order.ts";

/** A row that may go into the version, its pictures stored. */
export interface AcceptedRow {
  readonly source: SourceRow;
  readonly checked: CheckedRow;
  readonly images: readonly RecordImage[];
}

interface Processed {
  readonly item: SourceItem;
  readonly outcome: AcceptedRow | RowProblem | null;
}

/**
 * Opens, checks and stores rows side by side, and yields the good ones in order. Findings go to the report.
 *
 * @throws InvalidError `bad_row` at the first bad row under `reject-all`
 */
export async function* acceptRows(
  items: AsyncIterable<SourceItem>,
  images: ImageStore,
  report: ReportBuilder,
  options: ImportOptions,
  concurrency: number,
): AsyncGenerator<AcceptedRow> {
  const processed = mapInOrder(items, concurrency, async (item): Promise<Processed> => ({
    item,
    outcome: item.kind === "row" ? await processRow(item, images, options) : null,
  }));
  let hasTestRows = false;
  for await (const { item, outcome } of processed) {
    if (item.kind === "issue") {
      if (item.isRow) report.rowsRead += 1;
      report.add(item.issue);
      if (item.issue.severity === "error") refuse(item.issue, options);
      continue;
    }
    report.rowsRead += 1;
    if (outcome === null) continue;
    if ("code" in outcome) {
      const issue = issueOf(item, "error", outcome);
      report.add(issue);
      refuse(issue, options);
      continue;
    }
    if (!hasTestRows && item.split === "validation" && isTestPath(item.file)) {
      hasTestRows = true;
      report.add(testNote(item.file));
    }
    for (const warning of outcome.checked.warnings) report.add(issueOf(item, "warning", warning));
    yield outcome;
  }
}

async function processRow(
  row: SourceRow,
  store: ImageStore,
  options: ImportOptions,
): Promise<AcceptedRow | RowProblem> {
  const opened: OpenedImage[] = [];
  for (const reference of row.images) {
    const result: OpenResult = await store.open(reference);
    if ("code" in result) return result;
    opened.push(result);
  }
  const checked = checkRow(
    row,
    opened.map(({ inspected }) => inspected),
    options,
  );
  if ("code" in checked) return checked;
  const images: RecordImage[] = [];
  for (const image of opened) images.push(await store.store(image));
  return { source: row, checked, images };
}

/** A finding about a row, its place said in words at the beginning. */
export function issueOf(
  row: Pick<SourceRow, "file" | "row">,
  severity: "error" | "warning",
  { code, path, message }: RowProblem,
): SourceIssue["issue"] {
  return { severity, code, file: row.file, row: row.row, path, message: `${row.file}, row ${row.row}: ${message}` };
}

function refuse(issue: SourceIssue["issue"], options: ImportOptions): void {
  if (options.onBadRow !== "reject-all") return;
  throw new InvalidError("bad_row", `${issue.message}. Nothing was imported, because onBadRow is "reject-all"`, {
    details: [{ path: `${issue.file}, row ${issue.row ?? 1}`, code: issue.code, message: issue.message }],
  });
}

function testNote(file: string): SourceIssue["issue"] {
  const message = `rows marked as test (the first in ${file}) go to the validation split, since a version has no third one. Leave them out to keep them unseen`;
  return { severity: "warning", code: "test_as_validation", file, row: null, path: null, message };
}
