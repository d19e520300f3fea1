import { randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32 } from "node:zlib";
import type * as S3 from "@aws-sdk/client-s3";
import { PreconditionFailedError, UnavailableError } from "../errors.ts";
import { combineCrc32, encodeCrc32 } from "./crc32.ts";
import { inParallel } from "./in-parallel.ts";
import type { S3Connection } from "./s3-connection.ts";
import { damagedOnItsWay } from "./s3-errors.ts";
import { defaultParallelParts, defaultPartSizeBytes } from "./s3-options.ts";

/** A body on its way, and what the server says of it. */
export interface S3Body {
  readonly stream: Readable;
  readonly sizeBytes: number | null;
  readonly etag: string | undefined;
  /** CRC-32 of the whole object, base64; absent for a range, and for an object that was stored without one. */
  readonly crc32: string | undefined;
}

/** Opens an object, or its bytes `[start, endExclusive)`. The SDK compares the checksum of a whole object as it passes. */
export async function openBody(
  connection: S3Connection,
  key: string,
  options: { readonly range?: ByteRange; readonly etag?: string | undefined; readonly signal?: AbortSignal } = {},
): Promise<S3Body> {
  const { range, etag, signal } = options;
  return await connection.call(key, async ({ sdk, client }) => {
    const answer = await client.send(
      new sdk.GetObjectCommand({
        ...connection.address(key),
        ...(range ? { Range: `bytes=${range.start}-${range.endExclusive - 1}` } : { ChecksumMode: "ENABLED" }),
        ...(etag === undefined ? {} : { IfMatch: etag }),
      }),
      signal ? { abortSignal: signal } : {},
    );
    if (!(answer.Body instanceof Readable))
      throw new UnavailableError("storage_unavailable", `storage sent no body for object "${key}"`);
    return {
      stream: answer.Body,
      sizeBytes: answer.ContentLength ?? null,
      etag: answer.ETag,
      crc32: range ? undefined : checksumOf(answer),
    };
  });
}

export interface ByteRange {
  readonly start: number;
  readonly endExclusive: number;
}

/** Composite checksums are checksums of checksums: they cannot be compared with the bytes. */
function checksumOf({ ChecksumCRC32, ChecksumType }: S3.GetObjectCommandOutput): string | undefined {
  return ChecksumType === "COMPOSITE" || ChecksumCRC32?.includes("-") ? undefined : ChecksumCRC32;
}

/** The chunks of a body; an error names the key, and a body that ends early or arrives damaged is one. */
export async function* wholeBody(connection: S3Connection, key: string, body: S3Body): AsyncIterable<Buffer> {
  let receivedBytes = 0;
  try {
    for await (const chunk of body.stream) {
      const bytes = chunk as Buffer;
      receivedBytes += bytes.length;
      yield bytes;
    }
  } catch (error) {
    throw connection.translate(key, error);
  }
  if (body.sizeBytes !== null && receivedBytes !== body.sizeBytes) {
    throw new UnavailableError(
      "storage_unavailable",
      `storage sent ${receivedBytes} of ${body.sizeBytes} bytes of object "${key}"`,
    );
  }
}

/**
 * Streams an object into a file, in parallel ranges when it is large, and compares its CRC-32 with the one that storage
 * keeps. The file appears whole or not at all.
 */
export async function downloadFile(connection: S3Connection, key: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${randomBytes(6).toString("hex")}.part`;
  try {
    const { partSizeBytes = defaultPartSizeBytes } = connection.options;
    const first = await openBody(connection, key);
    if (first.sizeBytes !== null && first.sizeBytes > partSizeBytes) {
      first.stream.destroy();
      await downloadRanges(connection, key, temporary, { ...first, sizeBytes: first.sizeBytes }, partSizeBytes);
    } else {
      await pipeline(wholeBody(connection, key, first), createWriteStream(temporary, { flush: true }));
    }
    await rename(temporary, path);
  } catch (error) {
    throw connection.translate(key, error);
  } finally {
    await rm(temporary, { force: true });
  }
}

async function downloadRanges(
  connection: S3Connection,
  key: string,
  path: string,
  object: S3Body & { readonly sizeBytes: number },
  partSizeBytes: number,
): Promise<void> {
  const { sizeBytes, etag } = object;
  const file = await open(path, "wx");
  try {
    const received = await inParallel(
      Math.ceil(sizeBytes / partSizeBytes),
      connection.options.parallelParts ?? defaultParallelParts,
      async (index, signal) => {
        const start = index * partSizeBytes;
        const range = { start, endExclusive: Math.min(start + partSizeBytes, sizeBytes) };
        return await connection.patientCall(`get part ${index + 1} of "${key}"`, key, async () => {
          signal.throwIfAborted();
          const body = await openUnchanged(connection, key, { range, etag, signal });
          let checksum = 0;
          let position = start;
          for await (const chunk of wholeBody(connection, key, body)) {
            checksum = crc32(chunk, checksum);
            for (let written = 0; written < chunk.length;)
              written += (await file.write(chunk, written, chunk.length - written, position + written)).bytesWritten;
            position += chunk.length;
          }
          return { checksum, sizeBytes: position - start };
        });
      },
    );
    if (object.crc32 !== undefined) {
      const whole = received.reduce((crc, part) => combineCrc32(crc, part.checksum, part.sizeBytes), 0);
      if (encodeCrc32(whole) !== object.crc32) throw damagedOnItsWay(key, encodeCrc32(whole), object.crc32);
    }
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A range of the object that was opened first; another one under the same key would be mixed into it. */
async function openUnchanged(...parameters: Parameters<typeof openBody>): Promise<S3Body> {
  try {
    return await openBody(...parameters);
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error;
    throw new UnavailableError("object_changed", `object "${parameters[1]}" was replaced while it was read`, {
      cause: error,
    });
  }
}
