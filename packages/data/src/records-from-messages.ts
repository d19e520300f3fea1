import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { canonicalJson, InvalidError, messageOf, sha256 } from "@drydock/kit";
import type { DataRecord, RecordImage, Task } from "@drydock/spec";
import { readMessagesRow } from "./importers/openai-jsonl.ts";
import type { ImageReference, SourceRow } from "./importers/source-row.ts";
import { readLines } from "./text-lines.ts";
import { checkRow } from "./validation/check-row.ts";
import { inspectImage } from "./validation/inspect-image.ts";
import { contentDigest } from "./version/image-store.ts";

export interface MessagesOptions {
  /** Default: `vqa` for one question about pictures, else `chat`. */
  readonly task?: Task;
  /**
   * Folder that image keys are relative to, an ancestor of every picture. Default: the file's own folder; `/` takes
   * pictures from anywhere.
   */
  readonly root?: string;
  /** Folder below `root` for pictures that rows carry as data URIs; without it such rows are refused. */
  readonly inlineDirectory?: string;
}

/**
 * The rows of an OpenAI-messages JSONL file as records of the training split, in file order, without copying pictures.
 * A `phrase-grounding` row holds its boxes as text in the answer, in the model's own convention, and has no `groundings`.
 * Paths are taken from the file's folder, then from the working directory. Unlike an import, the first bad row ends it.
 *
 * @throws InvalidError `bad_data` naming file and line
 */
export async function* recordsFromMessages(file: string, options: MessagesOptions = {}): AsyncIterable<DataRecord> {
  const counts = new Map<string, number>();
  const pictures = new Map<string, Promise<OpenPicture>>();
  for await (const { line, text } of readLines(file, file)) {
    if (text.trim() === "") continue;
    const row = readMessagesRow(file, line, parse(file, line, text), options.task ? { task: options.task } : {});
    if (row.kind === "issue") throw badData(file, line, row.issue.message);
    yield await toRecord(file, row, options, pictures, counts);
  }
}

interface OpenPicture {
  readonly image: RecordImage;
  readonly inspected: Extract<Awaited<ReturnType<typeof inspectImage>>, { isUsable: true }>;
}

function parse(file: string, line: number, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw badData(file, line, `not valid JSON (${messageOf(error)}): repair or remove the line`, error);
  }
}

function badData(file: string, line: number, message: string, cause?: unknown): InvalidError {
  const place = `${file}, line ${line}`;
  return new InvalidError(
    "bad_data",
    message.startsWith(place) ? message : `${place}: ${message}`,
    cause === undefined ? {} : { cause },
  );
}

async function toRecord(
  file: string,
  row: SourceRow,
  options: MessagesOptions,
  pictures: Map<string, Promise<OpenPicture>>,
  counts: Map<string, number>,
): Promise<DataRecord> {
  const opened: OpenPicture[] = [];
  for (const reference of row.images) opened.push(await openPicture(file, row.row, reference, options, pictures));
  const checked = checkRow(
    row,
    opened.map(({ inspected }) => inspected),
    { task: opened.length === 0 ? "chat" : "vqa" },
  );
  if ("code" in checked) throw badData(file, row.row, checked.message);
  const images = opened.map(({ image }) => image);
  const digest = contentDigest(
    canonicalJson({ task: row.task, messages: checked.messages, images: images.map((image) => image.sha256) }),
  );
  const count = counts.get(digest) ?? 0;
  counts.set(digest, count + 1);
  return {
    rowId: count === 0 ? digest : `${digest}-${count}`,
    split: row.split ?? "train",
    task: row.task,
    source: { file, row: row.row },
    images,
    messages: checked.messages,
    ...(row.tags ? { tags: [...row.tags] } : {}),
  };
}

async function openPicture(
  file: string,
  line: number,
  reference: ImageReference,
  options: MessagesOptions,
  pictures: Map<string, Promise<OpenPicture>>,
): Promise<OpenPicture> {
  const root = resolve(options.root ?? dirname(file));
  if (reference.kind === "bytes") {
    const path = await writeInline(file, line, reference.base64, options);
    return await inspect(file, line, path, reference.name, root);
  }
  const path = await findPicture(file, line, reference.name);
  const started = pictures.get(path) ?? inspect(file, line, path, reference.name, root);
  pictures.set(path, started);
  return await started;
}

async function findPicture(file: string, line: number, name: string): Promise<string> {
  const candidates = isAbsolute(name) ? [name] : [resolve(dirname(file), name), resolve(name)];
  for (const candidate of candidates) {
    const isFile = await stat(candidate).then(
      (status) => status.isFile(),
      () => false,
    );
    if (isFile) return candidate;
  }
  throw badData(file, line, `picture "${name}" is not there (looked for ${candidates.join(" and ")})`);
}

async function writeInline(
  file: string,
  line: number,
  base64: string,
  { inlineDirectory }: MessagesOptions,
): Promise<string> {
  if (inlineDirectory === undefined)
    throw badData(file, line, "the row carries its picture as a data URI; write it to a file and name that");
  const bytes = Buffer.from(base64, "base64");
  const path = join(resolve(inlineDirectory), sha256(bytes));
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
  return path;
}

async function inspect(file: string, line: number, path: string, name: string, root: string): Promise<OpenPicture> {
  const key = relative(root, path).split(sep).join("/");
  if (key.startsWith("../") || isAbsolute(key))
    throw badData(file, line, `picture "${name}" lies outside of ${root}: move it below that folder`);
  const inspected = await inspectImage(await readFile(path));
  if (!inspected.isUsable) throw badData(file, line, `picture "${name}" ${inspected.message}`);
  const { sha256: digest, width, height, sizeBytes } = inspected;
  return { inspected, image: { key, sha256: digest, fileName: name, width, height, sizeBytes } };
}
