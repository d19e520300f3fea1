import { readFile, stat } from "node:fs/promises";
import { messageOf, TooLargeError } from "@drydock/kit";
import { readLines } from "../text-lines.ts";
import type { DatasetFolder } from "./dataset-folder.ts";
import { note, rowError, type SourceIssue } from "./source-row.ts";

/** Largest file that is parsed as one JSON value, in bytes; V8 holds no longer text. */
const maxJsonBytes = 500_000_000;

export interface JsonRow {
  readonly kind: "json";
  readonly row: number;
  readonly value: unknown;
}

/** The values of a JSONL file with their line numbers; a line that is not JSON becomes a finding. Blank lines are skipped. */
export async function* readJsonLines(folder: DatasetFolder, file: string): AsyncIterable<JsonRow | SourceIssue> {
  for await (const { line, text } of readLines(folder.pathOf(file), file)) {
    if (text.trim() === "") continue;
    try {
      yield { kind: "json", row: line, value: JSON.parse(text) as unknown };
    } catch (error) {
      yield brokenJson(file, line, error);
    }
  }
}

function brokenJson(file: string, row: number, error: unknown): SourceIssue {
  const reason = messageOf(error).replace(/ in JSON at position.*| \(line \d+ column \d+\)$/, "");
  return rowError(
    file,
    row,
    "broken_json",
    `${file}, line ${row} is not valid JSON (${reason}): repair or remove the line`,
  );
}

/**
 * One JSON value of a whole file, or a finding.
 *
 * @throws TooLargeError `json_too_large` naming the file
 */
export async function readJsonFile(folder: DatasetFolder, file: string): Promise<JsonRow | SourceIssue> {
  const path = folder.pathOf(file);
  const { size } = await stat(path);
  if (size > maxJsonBytes)
    throw new TooLargeError(
      "json_too_large",
      `${file} has ${Math.round(size / 1e6)} MB; at most ${maxJsonBytes / 1e6} MB of one JSON value can be read. Convert it to JSONL, one row per line`,
    );
  const text = (await readFile(path, "utf8")).replace(/^\uFEFF/, "");
  try {
    return { kind: "json", row: 1, value: JSON.parse(text) as unknown };
  } catch (error) {
    const position = /position (\d+)/.exec(messageOf(error))?.[1];
    const line = position === undefined ? 1 : text.slice(0, Number(position)).split("\n").length;
    return brokenJson(file, line, error);
  }
}

/** Rows of a `.jsonl` file, or the members of the list in a `.json` file with their 1-based index. */
export async function* readJsonRows(folder: DatasetFolder, file: string): AsyncIterable<JsonRow | SourceIssue> {
  if (!file.toLowerCase().endsWith(".json")) {
    yield* readJsonLines(folder, file);
    return;
  }
  const whole = await readJsonFile(folder, file);
  if (whole.kind === "issue") yield whole;
  else if (Array.isArray(whole.value)) {
    for (const [index, value] of (whole.value as unknown[]).entries()) yield { kind: "json", row: index + 1, value };
  } else yield note(file, null, "not_a_list", `${file} is not a JSON list of rows; it is left out`);
}

/** The first problem of a zod check as path and sentence. */
export function firstProblem(error: {
  readonly issues: readonly { readonly path: PropertyKey[]; readonly message: string }[];
}): { path: string; message: string } {
  const [issue] = error.issues;
  return { path: (issue?.path ?? []).map(String).join("."), message: issue?.message ?? "invalid" };
}
