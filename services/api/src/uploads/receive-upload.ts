import { createWriteStream } from "node:fs";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Transform, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { InvalidError, TooLargeError, UnavailableError, digestOf, type ObjectStorage } from "@drydock/kit";
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
 * @throws UnavailableError `disk_full` or those of the storage
 */
export async function receiveUpload(
  uploadId: string,
  incoming: AsyncIterable<IncomingFile>,
  storage: ObjectStorage,
  limits: Limits,
): Promise<ReceivedUpload> {
  const work = await mkdtemp(join(tmpdir(), "drydock-upload-"));
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
      const temporary = join(work, "file");
      const file = await writeAside(path, content, temporary, allowed, limits);
      sizeBytes += file.sizeBytes;
      await storage.putFile(`${uploadPrefix(uploadId)}${path}`, temporary);
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
  path: string,
  allowedBytes: number,
  limits: Limits,
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
    await pipeline(content, measure, createWriteStream(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOSPC")
      throw new UnavailableError(
        "disk_full",
        `the server's disk is full while "${name}" arrives: free space there and send it again`,
        { cause: error },
      );
    throw error;
  }
  return { sizeBytes, sha256: hash.digest("hex") };
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
