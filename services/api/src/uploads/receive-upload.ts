import { createWriteStream } from "node:fs";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Transform, type Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import {
  InsufficientStorageError,
  InvalidError,
  TooLargeError,
  digestOf,
  isDrydockError,
  markOfThisProcess,
  removeLeftOvers,
  type ObjectStorage,
} from "@drydock/kit";
import type { Limits } from "../services.ts";

/** One file as it arrives: its path as the user named it, and its bytes. */
export interface IncomingFile {
  readonly name: string;
  readonly content: Readable;
}

export interface ReceivedUpload {
  readonly files: number;
  readonly sizeBytes: number;
  /** Of names and contents: equal for equal uploads. */
  readonly digest: string;
}

/** Where a file lies until it is complete. */
export interface Spool {
  readonly folder: string;
  /** Opens a new file for writing. */
  open(path: string): Writable;
}

const spoolName = "drydock-upload";
const spoolFile = "file";
const ownSpool: Spool = { folder: tmpdir(), open: createWriteStream };

/** Removes what processes that were killed while files arrived left behind. */
export async function removeLeftSpools(folder: string = ownSpool.folder): Promise<void> {
  await removeLeftOvers(folder, (name) => {
    const [what, mark] = name.split(".");
    return what === spoolName ? (mark ?? "") : null;
  });
}

/** Prefix of the keys of an upload's files. */
export function uploadPrefix(uploadId: string): string {
  return `uploads/${uploadId}/`;
}

/**
 * Streams files into object storage under the upload's prefix, one after the other; memory holds a few chunks. When one
 * is refused, those before it are removed again.
 *
 * @throws InvalidError `unsafe_file_name`, `duplicate_file`, `no_files`
 * @throws TooLargeError `file_too_large`, `upload_too_large`, `too_many_files`
 * @throws InsufficientStorageError `disk_full`, naming the folder; those of the storage
 */
export async function receiveUpload(
  uploadId: string,
  incoming: AsyncIterable<IncomingFile>,
  storage: ObjectStorage,
  limits: Limits,
  spool: Spool = ownSpool,
): Promise<ReceivedUpload> {
  const work = await mkdtemp(join(spool.folder, `${spoolName}.${markOfThisProcess()}.`)).catch((error: unknown) => {
    throw isFull(error) ? diskFull("the upload", spool.folder, error) : error;
  });
  const received = new Map<string, string>();
  let sizeBytes = 0;
  try {
    for await (const { name, content } of incoming) {
      const path = safePath(name);
      if (received.has(path))
        throw new InvalidError("duplicate_file", `the upload holds "${path}" twice: send each file once`);
      if (received.size >= limits.uploadFiles)
        throw new TooLargeError(
          "too_many_files",
          `the upload holds more than ${limits.uploadFiles} files: send them as one archive (.zip, .tar, .tar.gz)`,
        );
      const allowed = Math.min(limits.uploadFileBytes, limits.uploadTotalBytes - sizeBytes);
      const file = await writeAside(path, content, allowed, limits, { folder: work, open: spool.open });
      sizeBytes += file.sizeBytes;
      await storage.putFile(`${uploadPrefix(uploadId)}${path}`, join(work, spoolFile)).catch((error: unknown) => {
        throw isFull(error) ? diskFull(`"${path}"`, placeOf(storage), error) : error;
      });
      received.set(path, file.sha256);
    }
    if (received.size === 0)
      throw new InvalidError(
        "no_files",
        "the upload holds no file: send the pictures and their annotations, or one archive of them",
      );
    return { files: received.size, sizeBytes, digest: digestOf(Object.fromEntries(received)) };
  } catch (error) {
    await removeUpload(uploadId, storage);
    throw error;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** Removes the files of an upload that is not wanted after all. */
export async function removeUpload(uploadId: string, storage: ObjectStorage): Promise<void> {
  for await (const { key } of storage.list(uploadPrefix(uploadId))) await storage.remove(key);
}

async function writeAside(
  name: string,
  content: Readable,
  allowedBytes: number,
  limits: Limits,
  { folder, open }: Spool,
): Promise<{ sizeBytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sizeBytes += chunk.length;
      hash.update(chunk);
      done(sizeBytes > allowedBytes ? tooLarge(name, sizeBytes, limits) : null, chunk);
    },
  });
  try {
    await pipeline(content, measure, open(join(folder, spoolFile)));
  } catch (error) {
    if (isFull(error)) throw diskFull(`"${name}"`, dirname(folder), error);
    throw error;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
}

/** True for a full disk or a spent quota, whether the system says so or our storage. */
function isFull(error: unknown): boolean {
  if (isDrydockError(error)) return error.code === "storage_full";
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}

function diskFull(what: string, place: string, cause: unknown): InsufficientStorageError {
  return new InsufficientStorageError(
    "disk_full",
    `the server's disk is full: ${what} does not fit in ${place}. Free space there, then send the upload again`,
    { cause },
  );
}

function placeOf({ url }: ObjectStorage): string {
  return url.startsWith("file:") ? fileURLToPath(url) : url;
}

function tooLarge(name: string, sizeBytes: number, limits: Limits): TooLargeError {
  return sizeBytes > limits.uploadFileBytes
    ? new TooLargeError(
        "file_too_large",
        `"${name}" is larger than ${limits.uploadFileBytes} bytes, the most that one file may have: split it`,
      )
    : new TooLargeError(
        "upload_too_large",
        `the upload is larger than ${limits.uploadTotalBytes} bytes with "${name}", the most that one upload may have: split it into several versions`,
      );
}

/**
 * The relative path of an uploaded file, with `/` between its parts.
 *
 * @throws InvalidError `unsafe_file_name` for absolute paths, `..`, control characters, or names over 512 characters
 */
export function safePath(name: string): string {
  const path = name.replaceAll("\\", "/").replace(/^(?:\.\/)+/, "");
  const parts = path.split("/");
  const isUnsafe =
    path.length > 512 ||
    /\p{Cc}|^[a-zA-Z]:/u.test(path) ||
    parts.some((part) => part === "" || part === "." || part === "..");
  if (isUnsafe)
    throw new InvalidError(
      "unsafe_file_name",
      `"${name.slice(0, 100)}" cannot be the name of an uploaded file: use a relative path without ".." and at most 512 characters`,
    );
  return path;
}
