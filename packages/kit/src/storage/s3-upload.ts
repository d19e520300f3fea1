import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { PreconditionFailedError } from "../errors.ts";
import { combineCrc32, crc32OfFile, encodeCrc32 } from "./crc32.ts";
import { inParallel } from "./in-parallel.ts";
import type { PutOptions } from "./object-storage.ts";
import type { OpenedSdk, S3Connection } from "./s3-connection.ts";
import { defaultParallelParts, defaultPartSizeBytes } from "./s3-options.ts";

/** Most parts of one upload that S3 takes. */
const maximumParts = 10_000;
/** An upload in parts that nobody finished for so long was left by a process that died. */
const abandonedAfterMs = 24 * 3_600_000;

/** Bytes of one read: fewer, larger writes to the connection. */
const readBytes = 512 * 1024;

interface Part {
  readonly number: number;
  readonly start: number;
  readonly endExclusive: number;
}

/**
 * Streams a file up, in parallel parts when it is large; each part, and the object as a whole, is refused by the server
 * when its CRC-32 is not that of the file. The object appears at the end, and an upload that fails is aborted.
 */
export async function uploadFile(
  connection: S3Connection,
  key: string,
  path: string,
  options: PutOptions,
): Promise<void> {
  const { size } = await stat(path);
  const { partSizeBytes = defaultPartSizeBytes } = connection.options;
  const wanted = Math.max(partSizeBytes, Math.ceil(size / maximumParts));
  if (size > wanted) return await uploadParts(connection, key, path, partsOf(size, wanted), options);
  const checksum = encodeCrc32(await crc32OfFile(path, 0, size));
  await connection.call(key, async ({ sdk, client }) => {
    const body = createReadStream(path, { highWaterMark: readBytes });
    try {
      await client.send(
        new sdk.PutObjectCommand({
          ...connection.address(key),
          Body: body,
          ContentLength: size,
          ChecksumCRC32: checksum,
          ...condition(options),
        }),
      );
    } finally {
      body.destroy();
    }
  });
}

export function condition(options: PutOptions): { IfNoneMatch?: "*" } {
  return options.ifNoneMatch ? { IfNoneMatch: "*" } : {};
}

function partsOf(sizeBytes: number, partSizeBytes: number): Part[] {
  return Array.from({ length: Math.ceil(sizeBytes / partSizeBytes) }, (_, index) => ({
    number: index + 1,
    start: index * partSizeBytes,
    endExclusive: Math.min((index + 1) * partSizeBytes, sizeBytes),
  }));
}

async function uploadParts(
  connection: S3Connection,
  key: string,
  path: string,
  parts: readonly Part[],
  options: PutOptions,
): Promise<void> {
  const address = connection.address(key);
  await connection.call(key, async (opened) => {
    // A taken key is found out before the bytes travel; the server decides when the upload is completed.
    if (options.ifNoneMatch) await refuseTaken(connection, opened, key);
    await abortAbandoned(opened, address);
  });
  const uploadId = await connection.call(key, async ({ sdk, client }) => {
    const command = { ...address, ChecksumAlgorithm: "CRC32", ChecksumType: "FULL_OBJECT" } as const;
    return (await client.send(new sdk.CreateMultipartUploadCommand(command))).UploadId;
  });
  try {
    const sent = await inParallel(
      parts.length,
      connection.options.parallelParts ?? defaultParallelParts,
      async (index, signal) => await uploadPart(connection, key, path, uploadId, parts[index]!, signal),
    );
    const whole = sent.reduce((crc, part) => combineCrc32(crc, part.crc32, part.sizeBytes), 0);
    await connection.call(key, async ({ sdk, client }) => {
      await client.send(
        new sdk.CompleteMultipartUploadCommand({
          ...address,
          UploadId: uploadId,
          ChecksumType: "FULL_OBJECT",
          ChecksumCRC32: encodeCrc32(whole),
          MultipartUpload: {
            Parts: sent.map((part) => ({
              PartNumber: part.number,
              ETag: part.etag,
              ChecksumCRC32: encodeCrc32(part.crc32),
            })),
          },
          ...condition(options),
        }),
      );
    });
  } catch (error) {
    // What this abort cannot remove, the next upload of the key or the bucket's lifecycle rule does; the cause is what the caller must hear of.
    await connection
      .call(key, async ({ sdk, client }) => {
        await client.send(new sdk.AbortMultipartUploadCommand({ ...address, UploadId: uploadId }));
      })
      .catch(() => undefined);
    throw error;
  }
}

interface SentPart {
  readonly number: number;
  readonly sizeBytes: number;
  readonly crc32: number;
  readonly etag: string | undefined;
}

async function uploadPart(
  connection: S3Connection,
  key: string,
  path: string,
  uploadId: string | undefined,
  { number, start, endExclusive }: Part,
  signal: AbortSignal,
): Promise<SentPart> {
  const sizeBytes = endExclusive - start;
  const crc32 = await crc32OfFile(path, start, endExclusive);
  const etag = await connection.patientCall(`put part ${number} of "${key}"`, key, async ({ sdk, client }) => {
    signal.throwIfAborted();
    const body = createReadStream(path, { start, end: endExclusive - 1, highWaterMark: readBytes });
    try {
      const answer = await client.send(
        new sdk.UploadPartCommand({
          ...connection.address(key),
          UploadId: uploadId,
          PartNumber: number,
          ContentLength: sizeBytes,
          ChecksumCRC32: encodeCrc32(crc32),
          Body: body,
        }),
        { abortSignal: signal },
      );
      return answer.ETag;
    } finally {
      body.destroy();
    }
  });
  return { number, sizeBytes, crc32, etag };
}

async function refuseTaken(connection: S3Connection, opened: OpenedSdk, key: string): Promise<void> {
  const { sdk, client } = opened;
  try {
    await client.send(new sdk.HeadObjectCommand(connection.address(key)));
  } catch (error) {
    if (error instanceof sdk.S3ServiceException) await connection.prove(key, opened);
    if (error instanceof sdk.S3ServiceException && error.$metadata.httpStatusCode === 404) return;
    throw error;
  }
  throw new PreconditionFailedError("object_exists", `object "${key}" exists already`);
}

/** Removes the parts that processes which died left of this object, where the server can list them. */
async function abortAbandoned({ sdk, client }: OpenedSdk, address: { Bucket: string; Key: string }): Promise<void> {
  try {
    const command = new sdk.ListMultipartUploadsCommand({ Bucket: address.Bucket, Prefix: address.Key });
    for (const { Key, UploadId, Initiated } of (await client.send(command)).Uploads ?? []) {
      const isAbandoned = Initiated !== undefined && Date.now() - Initiated.getTime() > abandonedAfterMs;
      if (Key === address.Key && isAbandoned)
        await client.send(new sdk.AbortMultipartUploadCommand({ ...address, UploadId }));
    }
  } catch (error) {
    // Tidying up is no reason to refuse an upload: the access key may lack s3:ListBucketMultipartUploads.
    if (!(error instanceof sdk.S3ServiceException)) throw error;
  }
}
