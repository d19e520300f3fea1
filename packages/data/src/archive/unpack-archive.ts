import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, open, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import { createTarDecoder, type ParsedTarEntry } from "modern-tar";
import { openPromise, type Entry } from "yauzl";
import { InvalidError, isDrydockError, messageOf, UnavailableError } from "@drydock/kit";
import { ArchiveGuard, defaultArchiveLimits, type ArchiveEntryKind, type ArchiveLimits } from "./archive-guard.ts";

export interface UnpackOptions {
  readonly limits?: Partial<ArchiveLimits>;
  readonly signal?: AbortSignal;
}

export interface Unpacked {
  readonly files: number;
  readonly bytes: number;
}

type ArchiveKind = "zip" | "tar" | "tar.gz";

/**
 * Unpacks a `.zip`, `.tar` or `.tar.gz` (told by its first bytes, not by its name) into an empty folder. Contents are
 * streamed; archives inside are not opened.
 *
 * @throws InvalidError `archive_unknown`, `archive_broken`, `unsafe_archive_entry` (paths that leave the folder, links,
 *   twice the same file), `archive_encrypted`; TooLargeError `archive_too_large`, `archive_bomb`; UnavailableError `disk_full`
 */
export async function unpackArchive(path: string, destination: string, options: UnpackOptions = {}): Promise<Unpacked> {
  const guard = new ArchiveGuard((await stat(path)).size, { ...defaultArchiveLimits, ...options.limits });
  const target: Target = { destination, guard, signal: options.signal, files: 0 };
  await mkdir(destination, { recursive: true });
  const kind = await kindOf(path);
  try {
    if (kind === "zip") await unpackZip(path, target);
    else await unpackTar(path, kind === "tar.gz", target);
  } catch (error) {
    throw translate(error, options.signal);
  }
  return { files: target.files, bytes: guard.unpackedBytes };
}

interface Target {
  readonly destination: string;
  readonly guard: ArchiveGuard;
  readonly signal: AbortSignal | undefined;
  files: number;
}

async function kindOf(path: string): Promise<ArchiveKind> {
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(512), 0, 512, 0);
    if (bytesRead >= 4 && buffer[0] === 0x50 && buffer[1] === 0x4b && [0x03, 0x05].includes(buffer[2] ?? 0))
      return "zip";
    if (buffer[0] === 0x1f && buffer[1] === 0x8b) return "tar.gz";
    if (buffer.subarray(257, 262).toString("latin1") === "ustar") return "tar";
  } finally {
    await handle.close();
  }
  throw new InvalidError(
    "archive_unknown",
    "the file is not a .zip, .tar or .tar.gz archive: pack the data set's folder as one of these",
  );
}

function translate(error: unknown, signal: AbortSignal | undefined): unknown {
  if (isDrydockError(error) || signal?.aborted) return error;
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOSPC" || code === "EDQUOT")
    return new UnavailableError("disk_full", "the disk is full while unpacking the archive: free space and try again", {
      cause: error,
    });
  const unsafeName = /^(?:invalid relative path|absolute path|invalid characters in fileName): (.*)$/.exec(
    messageOf(error),
  )?.[1];
  if (unsafeName !== undefined)
    return new InvalidError(
      "unsafe_archive_entry",
      `entry "${unsafeName}" of the archive leads out of its folder: pack the folder again with relative paths and without "../"`,
      { cause: error },
    );
  return new InvalidError(
    "archive_broken",
    `the archive is damaged or cut off (${messageOf(error)}): pack and upload it again`,
    { cause: error },
  );
}

async function unpackZip(path: string, target: Target): Promise<void> {
  const archive = await openPromise(path, { autoClose: false });
  try {
    for await (const entry of archive.eachEntry()) {
      const name = target.guard.admit(entry.fileName, zipKind(entry), entry.uncompressedSize);
      if (entry.isEncrypted())
        throw new InvalidError(
          "archive_encrypted",
          `entry "${entry.fileName}" of the archive is encrypted: pack it without a password`,
        );
      if (name !== null) await writeEntry(name, async () => await archive.openReadStreamPromise(entry), target);
    }
  } finally {
    archive.close();
  }
}

function zipKind(entry: Entry): ArchiveEntryKind {
  // The upper half holds the Unix mode when the archive was made on Unix.
  const type = (entry.externalFileAttributes >>> 16) & 0o170000;
  if (type === 0o120000) return "link";
  if (type === 0o040000 || entry.fileName.endsWith("/")) return "directory";
  return type === 0 || type === 0o100000 ? "file" : "other";
}

async function unpackTar(path: string, isZipped: boolean, target: Target): Promise<void> {
  const bytes = ReadableStream.from<Uint8Array<ArrayBuffer>>(readTar(path, isZipped, target.guard));
  const entries = bytes.pipeThrough(createTarDecoder({ strict: true }));
  for await (const { header, body } of entries as unknown as AsyncIterable<ParsedTarEntry>) {
    const name = target.guard.admit(header.name, tarKind(header.type), header.size);
    if (name === null) await body.cancel();
    else await writeEntry(name, () => body as unknown as AsyncIterable<Uint8Array>, target);
  }
}

async function* readTar(path: string, isZipped: boolean, guard: ArchiveGuard): AsyncIterable<Uint8Array<ArrayBuffer>> {
  const file = createReadStream(path, { highWaterMark: 2 ** 18 });
  const bytes = isZipped ? file.pipe(createGunzip()) : file;
  if (isZipped) file.on("error", (error) => bytes.destroy(error));
  try {
    let totalBytes = 0;
    for await (const chunk of bytes) {
      totalBytes += (chunk as Buffer).length;
      guard.countStream(totalBytes);
      yield chunk as Uint8Array<ArrayBuffer>;
    }
  } finally {
    file.destroy();
  }
}

function tarKind(type: string | undefined): ArchiveEntryKind {
  if (type === undefined || type === "file") return "file";
  if (type === "directory") return "directory";
  return type === "symlink" || type === "link" ? "link" : "other";
}

/**
 * @param open  called when the file's place is ready: a source that is open but not yet read could fail unheard
 */
async function writeEntry(
  name: string,
  open: () => AsyncIterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>,
  target: Target,
): Promise<void> {
  const path = join(target.destination, ...name.split("/"));
  let entryBytes = 0;
  const count = async function* (chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const chunk of chunks) {
      entryBytes += chunk.byteLength;
      target.guard.count(name, entryBytes, chunk.byteLength);
      yield chunk;
    }
  };
  try {
    await mkdir(dirname(path), { recursive: true });
    const file = createWriteStream(path, { flags: "wx" });
    await pipeline(await open(), count, file, target.signal ? { signal: target.signal } : {});
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EEXIST" || code === "ENOTDIR" || code === "EISDIR")
      throw new InvalidError(
        "unsafe_archive_entry",
        `entry "${name}" of the archive collides with another entry of that name: pack each file once`,
        { cause: error },
      );
    throw error;
  }
  target.files += 1;
}
