import type { Box, ImportOptions, RecordMessage, Task, ValidationIssue } from "@drydock/spec";
import type { DatasetFolder } from "./dataset-folder.ts";

export type Split = "train" | "validation";

/** A picture as a row names it: a file of the data set, or bytes carried in the row. */
export type ImageReference =
  | { readonly kind: "file"; readonly name: string; readonly namedIn: string }
  | { readonly kind: "bytes"; readonly name: string; readonly base64: string };

/** A box as written in the file. */
export interface SourceBox {
  /** Left, top, right, bottom in `unit`. */
  readonly box: Box;
  /** Pixels of the picture as stored, or fractions of it. */
  readonly unit: "pixels" | "fraction";
  /** As the file writes it, for messages. */
  readonly written: string;
}

export interface SourceGrounding {
  readonly phrase: string;
  readonly boxes: readonly SourceBox[];
}

/** A row of any format before its pictures are opened. */
export interface SourceRow {
  readonly kind: "row";
  readonly file: string;
  /** 1-based line or index. */
  readonly row: number;
  readonly task: Task;
  /** The split that the data itself gives. */
  readonly split: Split | null;
  readonly images: readonly ImageReference[];
  readonly messages: readonly RecordMessage[];
  readonly groundings?: readonly SourceGrounding[];
  /** Words that slices of an evaluation are made by. */
  readonly tags?: readonly string[];
  /** Picture size that the file states, in pixels. */
  readonly statedSize?: { readonly width: number; readonly height: number };
}

/** A finding of the importer about a row that it could not read, or a part of one that it left out. */
export interface SourceIssue {
  readonly kind: "issue";
  readonly issue: ValidationIssue;
  /** True when a whole row is lost, so that it counts as read. */
  readonly isRow: boolean;
}

export type SourceItem = SourceRow | SourceIssue;

/** Reads the rows of one format, in a fixed order. */
export type Importer = (folder: DatasetFolder, options: ImportOptions) => AsyncIterable<SourceItem>;

/** A finding that leaves a row out. */
export function rowError(
  file: string,
  row: number,
  code: string,
  message: string,
  path: string | null = null,
): SourceIssue {
  return { kind: "issue", isRow: true, issue: { severity: "error", code, file, row, path, message } };
}

/** A finding about something that stays, or a part that is left out. */
export function note(
  file: string,
  row: number | null,
  code: string,
  message: string,
  path: string | null = null,
): SourceIssue {
  return { kind: "issue", isRow: false, issue: { severity: "warning", code, file, row, path, message } };
}

/** The user's turn of a grounding row: the prompt with `{phrases}` filled in. */
export function groundingMessages(
  phrases: readonly string[],
  options: Pick<ImportOptions, "groundingPrompt">,
): RecordMessage[] {
  const prompt = (options.groundingPrompt ?? "Locate {phrases}.").replaceAll("{phrases}", () => phrases.join(", "));
  return [{ role: "user", content: prompt.includes("<image>") ? prompt : `<image>\n${prompt}` }];
}

const splitWords: Readonly<Record<string, Split>> = {
  train: "train",
  training: "train",
  valid: "validation",
  val: "validation",
  validation: "validation",
  dev: "validation",
  test: "validation",
};

/** The split that a path says: a folder or a file named train, valid, val, validation, dev or test (also `instances_val2017`). */
export function splitOfPath(file: string): Split | null {
  const word = splitWordOf(file);
  return word === null ? null : (splitWords[word] ?? null);
}

/** Whether a path says test: such rows go to validation, since a version has two splits. */
export function isTestPath(file: string): boolean {
  return splitWordOf(file) === "test";
}

function splitWordOf(file: string): string | null {
  const words = file
    .toLowerCase()
    .replace(/\.[a-z]+$/, "")
    .split(/[^a-z]+/);
  return words.find((word) => Object.hasOwn(splitWords, word)) ?? null;
}

/** The split that a row says in its own field; null when it says none or something else. */
export function splitOfField(value: unknown): Split | null {
  if (typeof value !== "string") return null;
  const word = value.toLowerCase();
  return Object.hasOwn(splitWords, word) ? (splitWords[word] ?? null) : null;
}
