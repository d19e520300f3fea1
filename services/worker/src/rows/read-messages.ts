import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { readMessagesRow, recordsFromMessages } from "@drydock/data";
import { InvalidError, NotFoundError, messageOf, sha256 } from "@drydock/kit";
import type { DataRecord, RecordImage } from "@drydock/spec";
import { BadDataError } from "../failure.ts";
import { describeImage } from "./describe-image.ts";

export interface MessagesOptions {
  readonly task?: DataRecord["task"];
  /** Where pictures that rows carry as data URIs become files. */
  readonly scratchDirectory: string;
}

/** Path of a picture of records read here: their keys are relative to the root of the file system. */
export async function localPathOf({ key }: RecordImage): Promise<string> {
  return resolve("/", key);
}

/**
 * OpenAI messages as records, see `recordsFromMessages`.
 *
 * @param path  JSONL, one `{"messages": […]}` a line
 * @throws BadDataError naming file, line and fault
 */
export async function readMessagesFile(
  path: string,
  { task, scratchDirectory }: MessagesOptions,
): Promise<DataRecord[]> {
  const records: DataRecord[] = [];
  try {
    for await (const record of recordsFromMessages(path, {
      root: "/",
      inlineDirectory: scratchDirectory,
      ...(task === undefined ? {} : { task }),
    }))
      records.push(record);
  } catch (error) {
    if (isMissing(error)) throw new BadDataError(`data file ${path} does not exist`, { cause: error });
    throw error instanceof InvalidError || error instanceof NotFoundError
      ? new BadDataError(error.message, { cause: error })
      : error;
  }
  if (records.length === 0) throw new BadDataError(`data file ${path} has no rows`);
  return records;
}

/**
 * One conversation, which need not be answered, from a JSON file: `{"messages": […]}` or a bare list of messages. Paths
 * of pictures are relative to the file's folder.
 *
 * @throws BadDataError naming what is wrong
 */
export async function readConversation(path: string, { scratchDirectory }: MessagesOptions): Promise<DataRecord> {
  const value = await readJson(path);
  const item = readMessagesRow(basename(path), 1, Array.isArray(value) ? { messages: value } : value, {});
  if (item.kind === "issue") throw new BadDataError(item.issue.message);
  const images: RecordImage[] = [];
  for (const reference of item.images) {
    const file =
      reference.kind === "file"
        ? resolve(dirname(path), reference.name)
        : await store(reference.base64, scratchDirectory);
    images.push(await describeImage(file, reference.name, path));
  }
  return {
    rowId: "conversation",
    split: "validation",
    task: item.task,
    source: { file: path, row: 1 },
    images,
    messages: [...item.messages],
  };
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new BadDataError(`messages file ${path} cannot be read: does it exist?`, { cause: error });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BadDataError(`${path}: broken JSON (${messageOf(error)})`, { cause: error });
  }
}

async function store(base64: string, directory: string): Promise<string> {
  const bytes = Buffer.from(base64, "base64");
  const path = join(directory, sha256(bytes));
  await mkdir(directory, { recursive: true });
  await writeFile(path, bytes);
  return path;
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
