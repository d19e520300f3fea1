import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { StringDecoder } from "node:string_decoder";
import { messageOf, TooLargeError } from "@drydock/kit";
import type { DatasetFolder } from "./dataset-folder.ts";
import { note, rowError, type SourceIssue } from "./source-row.ts";

/** Longest line that is read: a row with pictures in it, base64. */
const maxLineCharacters = 128 * 2 ** 20;

/** Largest file that is parsed as one JSON value, in bytes; V8 holds no longer text. */
const maxJsonBytes = 500_000_000;

export interface JsonRow {
  readonly kind: "json";
  readonly row: number;
  readonly value: unknown;
}

/** Lines of a text file with their 1-based numbers, one in memory at a time. A byte-order mark is dropped. */
export async function* readLines(
  path: string,
  name: string,
): AsyncIterable<{ readonly line: number; readonly text: string }> {
  const decoder = new StringDecoder("utf8");
  let rest: string[] = [];
  let restLength = 0;
  let line = 0;
  const finish = (tail: string): { line: number; text: string } => {
    line += 1;
    const text = rest.length === 0 ? tail : rest.join("") + tail;
    rest = [];
    restLength = 0;
    return { line, text: (line === 1 ? text.replace(/^\uFEFF/, "") : text).replace(/\r$/, "") };
  };
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 18 })) {
    const pieces = decoder.write(chunk as Buffer).split("\n");
    for (const piece of pieces.slice(0, -1)) yield finish(piece);
    const tail = pieces.at(-1) ?? "";
    rest.push(tail);
    restLength += tail.length;
    if (restLength > maxLineCharacters)
      throw new TooLargeError(
        "line_too_long",
        `${name}, line ${line + 1} is longer than ${maxLineCharacters / 2 ** 20} Mi characters: put one row on a line, and large pictures into files`,
      );
  }
  const last = finish(decoder.end());
  if (last.text !== "") yield last;
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
