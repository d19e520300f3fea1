import { createReadStream } from "node:fs";
import { parse } from "csv-parse";
import { messageOf } from "@drydock/kit";
import type { Box, ImportOptions } from "@drydock/spec";
import type { DatasetFolder } from "./dataset-folder.ts";
import {
  groundingMessages,
  note,
  rowError,
  splitOfField,
  splitOfPath,
  type Importer,
  type SourceBox,
  type SourceItem,
  type SourceRow,
  type Split,
} from "./source-row.ts";

/** The shapes of CSV files that are read, by the columns that they need. */
export const csvShapes = {
  corners: ["filename", "xmin", "ymin", "xmax", "ymax", "class"],
  size: ["filename", "x", "y", "width", "height", "class"],
  questions: ["image", "question", "answer"],
} as const;
export type CsvShape = keyof typeof csvShapes;

/** The shape that a header line has; null for none. Case and order of columns do not matter. */
export function csvShapeOf(header: readonly string[]): CsvShape | null {
  const columns = new Set(header.map((column) => column.trim().toLowerCase()));
  const found = Object.entries(csvShapes).find(([, needed]) => needed.every((column) => columns.has(column)));
  return found ? (found[0] as CsvShape) : null;
}

interface CsvRow {
  readonly record: Readonly<Record<string, string>>;
  readonly line: number;
}

/**
 * CSV: `filename,xmin,ymin,xmax,ymax,class` or `filename,x,y,width,height,class` (boxes in pixels, or fractions when none
 * of the file's numbers is above 1; lines of one picture become one row), or `image,question,answer`. A `split` column is honoured.
 */
export const importCsv: Importer = async function* (folder, options) {
  for (const file of folder.files.filter((name) => name.toLowerCase().endsWith(".csv"))) {
    let shape: CsvShape | null = null;
    const boxes: CsvRow[] = [];
    for await (const item of readCsv(folder, file)) {
      if ("kind" in item) {
        yield item;
        continue;
      }
      shape ??= csvShapeOf(Object.keys(item.record));
      if (shape === null) {
        yield rowError(
          file,
          1,
          "unknown_columns",
          `${file} has the columns ${Object.keys(item.record).join(", ")}; use ${Object.values(csvShapes)
            .map((columns) => columns.join(","))
            .join(" or ")}`,
        );
        break;
      }
      if (shape === "questions") yield questionRow(file, item);
      else boxes.push(item);
    }
    if (shape === "corners" || shape === "size") yield* boxRows(file, shape, boxes, options);
  }
};

async function* readCsv(folder: DatasetFolder, file: string): AsyncIterable<CsvRow | SourceItem> {
  const parser = parse({
    columns: (header: string[]) => header.map((column) => column.trim().toLowerCase()),
    bom: true,
    info: true,
    skip_empty_lines: true,
    skip_records_with_error: false,
    max_record_size: 2 ** 20,
  });
  const source = createReadStream(folder.pathOf(file));
  source.on("error", (error) => parser.destroy(error));
  try {
    for await (const parsed of source.pipe(parser)) {
      const { record, info } = parsed as { record: Record<string, string>; info: { lines: number } };
      yield { record, line: info.lines };
    }
  } catch (error) {
    const line = (error as { lines?: unknown }).lines;
    yield rowError(
      file,
      typeof line === "number" ? line : 1,
      "broken_csv",
      `${file}: ${messageOf(error)}. Lines after it were not read: repair the line and import again`,
    );
  }
}

function splitOf(file: string, record: CsvRow["record"]): Split | null {
  return splitOfField(record["split"]) ?? splitOfPath(file);
}

function questionRow(file: string, { record, line }: CsvRow): SourceRow {
  return {
    kind: "row",
    file,
    row: line,
    task: "vqa",
    split: splitOf(file, record),
    images: [{ kind: "file", name: record["image"] ?? "", namedIn: file }],
    messages: [
      { role: "user", content: `<image>\n${record["question"] ?? ""}` },
      { role: "assistant", content: record["answer"] ?? "" },
    ],
  };
}

function* boxRows(
  file: string,
  shape: "corners" | "size",
  rows: readonly CsvRow[],
  options: ImportOptions,
): Iterable<SourceItem> {
  const columns = csvShapes[shape].slice(1, 5);
  const numbersOf = ({ record }: CsvRow): number[] =>
    columns.map((column) => (record[column]?.trim() ? Number(record[column]) : Number.NaN));
  const isFraction =
    rows.length > 0 &&
    rows.every((row) => numbersOf(row).every((value) => Number.isNaN(value) || Math.abs(value) <= 1));
  for (const [name, own] of Map.groupBy(rows, ({ record }) => record["filename"] ?? "")) {
    const [first] = own;
    if (!first) continue;
    const phrases = new Map<string, SourceBox[]>();
    for (const row of own) {
      const phrase = (row.record["class"] ?? "").trim();
      const box = phrase === "" ? null : toBox(shape, numbersOf(row));
      if (box === null) {
        const rule = `${columns.join(", ")} must be numbers and class must not be empty`;
        yield note(file, row.line, "broken_line", `${file}, line ${row.line}: ${rule}; the box is left out`);
        continue;
      }
      const written = `line ${row.line} [${numbersOf(row).join(", ")}] (${columns.join(", ")})`;
      const boxes = phrases.get(phrase) ?? [];
      boxes.push({ box, unit: isFraction ? "fraction" : "pixels", written });
      phrases.set(phrase, boxes);
    }
    if (phrases.size === 0)
      yield rowError(
        file,
        first.line,
        "picture_without_boxes",
        `${file}, line ${first.line}: picture "${name}" has no usable box`,
      );
    if (phrases.size === 0) continue;
    const groundings = [...phrases].map(([phrase, boxes]) => ({ phrase, boxes }));
    yield {
      kind: "row",
      file,
      row: first.line,
      task: "phrase-grounding",
      split: splitOf(file, first.record),
      images: [{ kind: "file", name, namedIn: file }],
      messages: groundingMessages([...phrases.keys()], options),
      groundings,
    };
  }
}

function toBox(shape: "corners" | "size", [a = 0, b = 0, c = 0, d = 0]: readonly number[]): Box | null {
  if (![a, b, c, d].every(Number.isFinite)) return null;
  return shape === "corners" ? [a, b, c, d] : [a, b, a + c, b + d];
}
