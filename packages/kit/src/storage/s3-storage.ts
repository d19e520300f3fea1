import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import type * as S3 from "@aws-sdk/client-s3";
import { encodeCrc32 } from "./crc32.ts";
import type { DownloadUrlOptions, ObjectInfo, ObjectStorage, PutOptions } from "./object-storage.ts";
import { S3Connection, open, type OpenedSdk } from "./s3-connection.ts";
import { downloadFile, openBody, wholeBody, type ByteRange } from "./s3-download.ts";
import type { S3Options } from "./s3-options.ts";
import { condition, uploadFile } from "./s3-upload.ts";

/**
 * Object storage in an S3 bucket or an S3-compatible server.
 *
 * Status codes become our errors, see `translateS3Error`: 404 not found, 412 precondition failed, wrong settings
 * `InvalidError`, and 5xx, 429, a conflict of two conditional writes, timeouts and broken connections
 * `storage_unavailable`. What goes up carries its CRC-32, which the server checks; what comes down is checked here.
 */
export class S3Storage implements ObjectStorage {
  readonly url: string;
  readonly #connection: S3Connection;
  #public: Promise<OpenedSdk> | null = null;

  constructor(options: S3Options) {
    this.#connection = new S3Connection(options);
    this.url = `s3://${options.bucket}${options.prefix === "" ? "" : `/${options.prefix}`}`;
  }

  async put(key: string, content: Uint8Array | string, options: PutOptions = {}): Promise<void> {
    const body = typeof content === "string" ? Buffer.from(content) : content;
    await this.#connection.call(key, async ({ sdk, client }) => {
      await client.send(
        new sdk.PutObjectCommand({
          ...this.#connection.address(key),
          Body: body,
          ContentLength: body.byteLength,
          ChecksumCRC32: encodeCrc32(crc32(body)),
          ...condition(options),
        }),
      );
    });
  }

  async putFile(key: string, path: string, options: PutOptions = {}): Promise<void> {
    await uploadFile(this.#connection, key, path, options);
  }

  async get(key: string): Promise<Uint8Array> {
    const chunks: Buffer[] = [];
    for await (const chunk of await this.read(key)) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  async read(key: string, range?: ByteRange): Promise<Readable> {
    if (range && range.endExclusive <= range.start) return Readable.from([]);
    const body = await openBody(this.#connection, key, range ? { range } : {});
    return Readable.from(wholeBody(this.#connection, key, body), { objectMode: false });
  }

  async getFile(key: string, path: string): Promise<void> {
    await downloadFile(this.#connection, key, path);
  }

  async head(key: string): Promise<ObjectInfo | null> {
    return await this.#connection.call(key, async (opened) => {
      const { sdk, client } = opened;
      try {
        const answer = await client.send(new sdk.HeadObjectCommand(this.#connection.address(key)));
        return { key, sizeBytes: answer.ContentLength ?? 0, modifiedAt: answer.LastModified ?? new Date(0) };
      } catch (error) {
        const status = error instanceof sdk.S3ServiceException ? (error.$metadata.httpStatusCode ?? 0) : 0;
        if (status >= 400 && status < 500) await this.#connection.prove(key, opened);
        if (status === 404) return null;
        throw error;
      }
    });
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const { bucket, prefix: rootPrefix } = this.#connection.options;
    const root = rootPrefix === "" ? "" : `${rootPrefix}/`;
    let continuationToken: string | undefined;
    do {
      const token: string | undefined = continuationToken;
      const page: S3.ListObjectsV2CommandOutput = await this.#connection.call(
        prefix,
        async ({ sdk, client }) =>
          await client.send(
            new sdk.ListObjectsV2Command({
              Bucket: bucket,
              Prefix: `${root}${prefix}`,
              EncodingType: "url", // XML cannot say every character that a key may have
              ...(token === undefined ? {} : { ContinuationToken: token }),
            }),
          ),
      );
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined) continue;
        const key = page.EncodingType === "url" ? decodeURIComponent(Key.replaceAll("+", " ")) : Key;
        yield { key: key.slice(root.length), sizeBytes: Size ?? 0, modifiedAt: LastModified ?? new Date(0) };
      }
      continuationToken = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (continuationToken !== undefined);
  }

  async remove(key: string): Promise<void> {
    await this.#connection.call(key, async ({ sdk, client }) => {
      await client.send(new sdk.DeleteObjectCommand(this.#connection.address(key)));
    });
  }

  async downloadUrl(key: string, { expiresInSeconds, fileName, contentType }: DownloadUrlOptions): Promise<string> {
    const { options } = this.#connection;
    return await this.#connection.call(key, async (opened) => {
      this.#public ??= open(options, options.publicEndpoint ?? options.endpoint);
      const [{ sdk, client }, { getSignedUrl }] = await Promise.all([
        this.#public,
        import("@aws-sdk/s3-request-presigner"),
      ]);
      const command = new sdk.GetObjectCommand({
        ...this.#connection.address(key),
        ...(fileName === undefined
          ? {}
          : { ResponseContentDisposition: `attachment; filename*=UTF-8''${encodeURIComponent(fileName)}` }),
        ...(contentType === undefined ? {} : { ResponseContentType: contentType }),
      });
      const clockOffsetMs = opened.client.config.systemClockOffset; // learned from the server's answers
      const signingDate = new Date(Date.now() + clockOffsetMs);
      return await getSignedUrl(client, command, { expiresIn: expiresInSeconds, signingDate });
    });
  }
}
