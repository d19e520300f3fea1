import { createReadStream } from "node:fs";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { readMessagesRow } from "@drydock/data";
import { messageOf, sha256 } from "@drydock/kit";
import type { DataRecord, RecordImage } from "@drydock/spec";
import sharp from "sharp";
import { BadDataError } from "../failure.ts";

export interface MessagesOptions {
  readonly task?: DataRecord["task"];
  /** Where pictures that rows carry as data URIs become files. */
  readonly scratchDirectory: string;
}

/**
 * OpenAI messages as records whose pictures' keys are absolute paths. Paths in the file are relative to its folder. Rows
 * without a `split` are trained on.
 *
 * @param path  JSONL, one `{"messages": […]}` a line
 * @throws BadDataError naming file, line and fault
 */
export async function readMessagesFile(path: string, options: MessagesOptions): Promise<DataRecord[]> {
  const records: DataRecord[] = [];
  let line = 0;
  try {
    for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      if (text.trim() !== "") records.push(await recordOf(path, line, parseJson(path, line, text), options));
    }
  } catch (error) {
    throw isMissing(error) ? new BadDataError(`data file ${path} does not exist`, { cause: error }) : error;
  }
  if (records.length === 0) throw new BadDataError(`data file ${path} has no rows`);
  return records;
}

/** One conversation from a JSON file: `{"messages": […]}`, a bare list of messages, or JSONL of one line. */
export async function readConversation(path: string, options: MessagesOptions): Promise<DataRecord> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw new BadDataError(`messages file ${path} cannot be read: does it exist?`, { cause: error });
  }
  const value = parseJson(path, 1, text);
  return await recordOf(path, 1, Array.isArray(value) ? { messages: value } : value, options);
}

function parseJson(path: string, line: number, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new BadDataError(`${path}, line ${line}: broken JSON (${messageOf(error)})`, { cause: error });
  }
}

async function recordOf(path: string, line: number, value: unknown, options: MessagesOptions): Promise<DataRecord> {
  const item = readMessagesRow(basename(path), line, value, options.task === undefined ? {} : { task: options.task });
  if (item.kind === "issue") throw new BadDataError(item.issue.message);
  const images: RecordImage[] = [];
  for (const reference of item.images) {
    const file =
      reference.kind === "file"
        ? resolve(dirname(path), reference.name)
        : await store(reference.base64, options.scratchDirectory);
    images.push(await describeImage(file, reference.name, `${basename(path)}, line ${line}`));
  }
  const messages = [...item.messages];
  return {
    rowId: `${sha256(JSON.stringify([messages, images.map((image) => image.sha256)])).slice(0, 16)}-${line}`,
    split: item.split ?? "train",
    task: item.task,
    source: { file: basename(path), row: line },
    images,
    messages,
  };
}

async function store(base64: string, directory: string): Promise<string> {
  const bytes = Buffer.from(base64, "base64");
  const path = join(directory, sha256(bytes));
  await mkdir(directory, { recursive: true });
  await writeFile(path, bytes);
  return path;
}

/** Size and digest of a picture on this machine. @param row  where it is named, for messages */
async function describeImage(path: string, fileName: string, row: string): Promise<RecordImage> {
  try {
    const bytes = await readFile(path);
    const { autoOrient } = await sharp(bytes).metadata();
    return {
      key: path,
      sha256: sha256(bytes),
      fileName,
      width: autoOrient.width,
      height: autoOrient.height,
      sizeBytes: (await stat(path)).size,
    };
  } catch (error) {
    if (isMissing(error))
      throw new BadDataError(`${row}: picture ${fileName} does not exist (${path})`, { cause: error });
    throw new BadDataError(`${row}: picture ${fileName} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT" && !(error instanceof BadDataError);
}
