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

/** The split that a path says: a folder or a file named train, valid, val, validation, dev or test (also `instances_val2017`). */
export function splitOfPath(file: string): { readonly split: Split | null; readonly isTest: boolean } {
  for (const part of file.toLowerCase().split("/")) {
    const words = part.replace(/\.[a-z]+$/, "").split(/[^a-z]+/);
    if (words.includes("train") || words.includes("training")) return { split: "train", isTest: false };
    if (words.some((word) => ["valid", "val", "validation", "dev"].includes(word)))
      return { split: "validation", isTest: false };
    if (words.includes("test")) return { split: "validation", isTest: true };
  }
  return { split: null, isTest: false };
}

/** The split that a row says in its own field; null when it says none or something else. */
export function splitOfField(value: unknown): Split | null {
  if (typeof value !== "string") return null;
  const word = value.toLowerCase();
  if (word === "train" || word === "training") return "train";
  return ["valid", "val", "validation", "dev", "test"].includes(word) ? "validation" : null;
}
