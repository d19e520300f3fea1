import { randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type * as S3 from "@aws-sdk/client-s3";
import { InvalidError, UnavailableError } from "../errors.ts";
import { checkObjectKey } from "./object-key.ts";
import type { ObjectInfo, ObjectStorage, PutOptions } from "./object-storage.ts";
import { translateS3Error } from "./s3-errors.ts";

export interface S3Options {
  readonly bucket: string;
  /** Prefix of every key, without slashes at its ends; empty = the whole bucket. */
  readonly prefix: string;
  /** URL of an S3-compatible server; absent = AWS of the region. */
  readonly endpoint?: string;
  readonly region: string;
  /** Absent = the SDK's own chain (web identity, instance profile, shared files). */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** `http://server/bucket/key` rather than `http://bucket.server/key`. */
  readonly forcePathStyle: boolean;
  /** Tries of one request inside the SDK. */
  readonly maximumTries?: number;
  /** A request without a sign of life for so long has failed. */
  readonly requestTimeoutMs?: number;
  /** Files larger than this go up in parts of this size (at least 5 MiB for AWS). */
  readonly partSizeBytes?: number;
}

type Sdk = typeof S3;

/** Most parts of one upload that S3 takes. */
const maximumParts = 10_000;

/**
 * Object storage in an S3 bucket or an S3-compatible server. The SDK is loaded at the first call, so that a process with
 * folder storage never pays for it.
 *
 * Status codes become our errors: 404 not found, 412 precondition failed, 401 and 403 `storage_refused` (not retryable:
 * the credentials are wrong), and 5xx, 429, a conflict of two conditional writes, timeouts and broken connections
 * `storage_unavailable`.
 */
export class S3Storage implements ObjectStorage {
  readonly url: string;
  readonly #options: S3Options;
  #opened: Promise<{ sdk: Sdk; client: S3.S3Client }> | null = null;

  constructor(options: S3Options) {
    this.#options = options;
    this.url = `s3://${options.bucket}${options.prefix === "" ? "" : `/${options.prefix}`}`;
  }

  async put(key: string, content: Uint8Array | string, options: PutOptions = {}): Promise<void> {
    const body = typeof content === "string" ? Buffer.from(content) : content;
    await this.#call(key, async ({ sdk, client }) => {
      await client.send(
        new sdk.PutObjectCommand({
          ...this.#address(key),
          Body: body,
          ContentLength: body.byteLength,
          ...condition(options),
        }),
      );
    });
  }

  async putFile(key: string, path: string, options: PutOptions = {}): Promise<void> {
    const { size } = await stat(path);
    const partSizeBytes = Math.max(this.#options.partSizeBytes ?? 64 * 2 ** 20, Math.ceil(size / maximumParts));
    if (size > partSizeBytes) return await this.#putParts(key, path, size, partSizeBytes, options);
    await this.#call(key, async ({ sdk, client }) => {
      await client.send(
        new sdk.PutObjectCommand({
          ...this.#address(key),
          Body: createReadStream(path),
          ContentLength: size,
          ...condition(options),
        }),
      );
    });
  }

  async get(key: string): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    for await (const chunk of await this.read(key)) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  async read(key: string, range?: { readonly start: number; readonly endExclusive: number }): Promise<Readable> {
    if (range && range.endExclusive <= range.start) return Readable.from([]);
    const body = await this.#call(key, async ({ sdk, client }) => {
      const answer = await client.send(
        new sdk.GetObjectCommand({
          ...this.#address(key),
          ...(range ? { Range: `bytes=${range.start}-${range.endExclusive - 1}` } : {}),
        }),
      );
      if (!(answer.Body instanceof Readable))
        throw new UnavailableError("storage_unavailable", `storage sent no body for object "${key}"`);
      return { stream: answer.Body, sizeBytes: answer.ContentLength ?? null };
    });
    return Readable.from(wholeBody(key, body.stream, body.sizeBytes), { objectMode: false });
  }

  async getFile(key: string, path: string): Promise<void> {
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${randomBytes(6).toString("hex")}.part`;
    try {
      await pipeline(await this.read(key), createWriteStream(temporary, { flush: true }));
      await rename(temporary, path);
    } catch (error) {
      throw translateS3Error(key, error);
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async head(key: string): Promise<ObjectInfo | null> {
    return await this.#call(key, async ({ sdk, client }) => {
      try {
        const answer = await client.send(new sdk.HeadObjectCommand(this.#address(key)));
        return { key, sizeBytes: answer.ContentLength ?? 0, modifiedAt: answer.LastModified ?? new Date(0) };
      } catch (error) {
        if (error instanceof sdk.S3ServiceException && error.$metadata.httpStatusCode === 404) return null;
        throw error;
      }
    });
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const root = this.#options.prefix === "" ? "" : `${this.#options.prefix}/`;
    let continuationToken: string | undefined;
    do {
      const token: string | undefined = continuationToken;
      const page: S3.ListObjectsV2CommandOutput = await this.#call(
        prefix,
        async ({ sdk, client }) =>
          await client.send(
            new sdk.ListObjectsV2Command({
              Bucket: this.#options.bucket,
              Prefix: `${root}${prefix}`,
              ...(token === undefined ? {} : { ContinuationToken: token }),
            }),
          ),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key !== undefined)
          yield { key: Key.slice(root.length), sizeBytes: Size ?? 0, modifiedAt: LastModified ?? new Date(0) };
      }
      continuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (continuationToken !== undefined);
  }

  async remove(key: string): Promise<void> {
    await this.#call(key, async ({ sdk, client }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#address(key)));
    });
  }

  /** A multipart upload; the object appears when it is completed, and a failed one is aborted. */
  async #putParts(
    key: string,
    path: string,
    sizeBytes: number,
    partSizeBytes: number,
    options: PutOptions,
  ): Promise<void> {
    await this.#call(key, async ({ sdk, client }) => {
      const address = this.#address(key);
      const { UploadId } = await client.send(new sdk.CreateMultipartUploadCommand(address));
      try {
        const parts: { PartNumber: number; ETag: string | undefined }[] = [];
        for (let start = 0; start < sizeBytes; start += partSizeBytes) {
          const end = Math.min(start + partSizeBytes, sizeBytes);
          const part = { ...address, UploadId, PartNumber: parts.length + 1, ContentLength: end - start };
          const { ETag } = await client.send(
            new sdk.UploadPartCommand({ ...part, Body: createReadStream(path, { start, end: end - 1 }) }),
          );
          parts.push({ PartNumber: part.PartNumber, ETag });
        }
        await client.send(
          new sdk.CompleteMultipartUploadCommand({
            ...address,
            UploadId,
            MultipartUpload: { Parts: parts },
            ...condition(options),
          }),
        );
      } catch (error) {
        // The bucket's lifecycle rule removes what this abort cannot; the cause is what the caller must hear of.
        await client.send(new sdk.AbortMultipartUploadCommand({ ...address, UploadId })).catch(() => undefined);
        throw error;
      }
    });
  }

  #address(key: string): { Bucket: string; Key: string } {
    return {
      Bucket: this.#options.bucket,
      Key: this.#options.prefix === "" ? checkObjectKey(key) : `${this.#options.prefix}/${checkObjectKey(key)}`,
    };
  }

  async #call<T>(key: string, action: (opened: { sdk: Sdk; client: S3.S3Client }) => Promise<T>): Promise<T> {
    try {
      this.#opened ??= open(this.#options);
      return await action(await this.#opened);
    } catch (error) {
      throw translateS3Error(key, error);
    }
  }
}

function ignore(): void {}

async function open(options: S3Options): Promise<{ sdk: Sdk; client: S3.S3Client }> {
  const sdk = await import("@aws-sdk/client-s3");
  const timeoutMs = options.requestTimeoutMs ?? 60_000;
  const client = new sdk.S3Client({
    region: options.region,
    forcePathStyle: options.forcePathStyle,
    maxAttempts: options.maximumTries ?? 3,
    requestHandler: {
      connectionTimeout: Math.min(timeoutMs, 10_000),
      requestTimeout: timeoutMs,
      throwOnRequestTimeout: true,
    },
    // Errors are thrown; what the SDK also prints would only repeat them.
    logger: { debug: ignore, info: ignore, warn: ignore, error: ignore },
    // Trailing checksums in aws-chunked bodies are not understood by every S3-compatible server; our manifests carry SHA-256.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  });
  return { sdk, client };
}

/** The chunks of a body; an error names the key, and a body that ends early is one. */
async function* wholeBody(key: string, stream: Readable, sizeBytes: number | null): AsyncIterable<Buffer> {
  let receivedBytes = 0;
  try {
    for await (const chunk of stream) {
      const bytes = chunk as Buffer;
      receivedBytes += bytes.length;
      yield bytes;
    }
  } catch (error) {
    throw translateS3Error(key, error);
  }
  if (sizeBytes !== null && receivedBytes !== sizeBytes) {
    throw new UnavailableError(
      "storage_unavailable",
      `storage sent ${receivedBytes} of ${sizeBytes} bytes of object "${key}"`,
    );
  }
}

function condition(options: PutOptions): { IfNoneMatch?: "*" } {
  return options.ifNoneMatch ? { IfNoneMatch: "*" } : {};
}

/**
 * S3 storage from `s3://bucket/prefix` and the environment: `S3_ENDPOINT`, `S3_REGION`, `S3_ACCESS_KEY_ID`,
 * `S3_SECRET_ACCESS_KEY` (each falling back to its `AWS_` name), `S3_FORCE_PATH_STYLE` (default: true with an endpoint).
 *
 * @throws InvalidError `invalid_storage_url` when there is no bucket
 */
export function s3StorageOf(url: string, environment: Readonly<Record<string, string | undefined>>): S3Storage {
  const matched = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(url);
  const bucket = matched?.[1];
  if (bucket === undefined)
    throw new InvalidError("invalid_storage_url", `storage URL "${url}" names no bucket: use s3://bucket/prefix`);
  const endpoint = environment["S3_ENDPOINT"] ?? environment["AWS_ENDPOINT_URL_S3"] ?? environment["AWS_ENDPOINT_URL"];
  const accessKeyId = environment["S3_ACCESS_KEY_ID"] ?? environment["AWS_ACCESS_KEY_ID"];
  const secretAccessKey = environment["S3_SECRET_ACCESS_KEY"] ?? environment["AWS_SECRET_ACCESS_KEY"];
  const pathStyle = environment["S3_FORCE_PATH_STYLE"];
  const hasSessionToken =
    environment["AWS_SESSION_TOKEN"] !== undefined && environment["S3_ACCESS_KEY_ID"] === undefined;
  return new S3Storage({
    bucket,
    prefix: (matched?.[2] ?? "").replaceAll(/^\/+|\/+$/g, ""),
    region: environment["S3_REGION"] ?? environment["AWS_REGION"] ?? environment["AWS_DEFAULT_REGION"] ?? "us-east-1",
    forcePathStyle: pathStyle === undefined ? endpoint !== undefined : pathStyle === "true" || pathStyle === "1",
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKeyId === undefined || secretAccessKey === undefined || hasSessionToken
      ? {}
      : { credentials: { accessKeyId, secretAccessKey } }),
  });
}
