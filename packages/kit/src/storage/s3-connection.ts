import type * as S3 from "@aws-sdk/client-s3";
import { retryUnavailable, type RetryPolicy } from "../retry.ts";
import { checkObjectKey } from "./object-key.ts";
import { translateS3Error } from "./s3-errors.ts";
import { placeOf, type S3Options } from "./s3-options.ts";

export type Sdk = typeof S3;

export interface OpenedSdk {
  readonly sdk: Sdk;
  readonly client: S3.S3Client;
}

/**
 * The way to one bucket: loads the SDK at the first call, so that a process with folder storage never pays for it, turns
 * keys into addresses and whatever is thrown into our errors.
 */
export class S3Connection {
  readonly options: S3Options;
  #opened: Promise<OpenedSdk> | null = null;
  #isProven = false;

  constructor(options: S3Options) {
    this.options = options;
  }

  address(key: string): { Bucket: string; Key: string } {
    const { bucket, prefix } = this.options;
    return { Bucket: bucket, Key: prefix === "" ? checkObjectKey(key) : `${prefix}/${checkObjectKey(key)}` };
  }

  async call<T>(key: string, action: (opened: OpenedSdk) => Promise<T>): Promise<T> {
    try {
      this.#opened ??= open(this.options);
      return await action(await this.#opened);
    } catch (error) {
      throw this.translate(key, error);
    }
  }

  /** The same again and again for a short while: for the parts of a large file, so that one lost part is not the whole file lost. */
  async patientCall<T>(what: string, key: string, action: (opened: OpenedSdk) => Promise<T>): Promise<T> {
    return await retryUnavailable(what, this.partPolicy, async () => await this.call(key, action));
  }

  /**
   * Answers to HEAD have no body: "no such object" may be "no such bucket" or "no such key". Asks once in a way that is
   * answered with the reason, and throws it.
   */
  async prove(key: string, { sdk, client }: OpenedSdk): Promise<void> {
    if (this.#isProven) return;
    const { Bucket, Key } = this.address(key);
    try {
      await client.send(new sdk.ListObjectsV2Command({ Bucket, Prefix: Key, MaxKeys: 1 }));
    } catch (error) {
      const mayNotList = error instanceof sdk.S3ServiceException && error.name === "AccessDenied";
      if (!mayNotList) throw error;
    }
    this.#isProven = true;
  }

  get partPolicy(): RetryPolicy {
    return { budgetMs: this.options.partBudgetMs ?? 20_000, maximumDelayMs: 5_000 };
  }

  translate(key: string, error: unknown): Error {
    const { bucket, region, credentials } = this.options;
    return translateS3Error(error, {
      key,
      bucket,
      region,
      place: placeOf(this.options),
      accessKeyId: credentials?.accessKeyId ?? null,
    });
  }
}

function ignore(): void {}

/** @param endpoint  instead of the options' own, e.g. the public one */
export async function open(options: S3Options, endpoint = options.endpoint): Promise<OpenedSdk> {
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
    // We send CRC-32 ourselves, in plain headers: the SDK would wrap streams in aws-chunked bodies with trailers, which
    // not every S3-compatible server understands.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    ...(options.clockOffsetMs === undefined ? {} : { systemClockOffset: options.clockOffsetMs }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  });
  return { sdk, client };
}
