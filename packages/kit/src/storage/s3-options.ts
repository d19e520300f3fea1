import { InvalidError } from "../errors.ts";

export interface S3Options {
  readonly bucket: string;
  /** Prefix of every key, without slashes at its ends; empty = the whole bucket. */
  readonly prefix: string;
  /** URL of an S3-compatible server; absent = AWS of the region. */
  readonly endpoint?: string;
  /** URL under which people's browsers and tools reach the same server, for presigned downloads; default: `endpoint`. */
  readonly publicEndpoint?: string;
  readonly region: string;
  /** Absent = the SDK's own chain (web identity, instance profile, shared files). */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /** `http://server/bucket/key` rather than `http://bucket.server/key`. */
  readonly forcePathStyle: boolean;
  /** Tries of one request inside the SDK. Default 3. */
  readonly maximumTries?: number;
  /** A request without a sign of life for so long has failed. Default 60,000. */
  readonly requestTimeoutMs?: number;
  /** Files larger than this travel in parts of this size (at least 5 MiB for AWS). Default 64 MiB. */
  readonly partSizeBytes?: number;
  /** Parts of one file on their way at once. Default 4. */
  readonly parallelParts?: number;
  /** How long one part is tried again before the whole file is given up. Default 20,000. */
  readonly partBudgetMs?: number;
  /** Milliseconds by which this machine's clock is wrong, for tests. */
  readonly clockOffsetMs?: number;
}

const mebibyte = 2 ** 20;
export const defaultPartSizeBytes = 64 * mebibyte;
export const defaultParallelParts = 4;

/** Where storage is, for messages: `bucket "weights" at http://minio:9000`. */
export function placeOf({ bucket, endpoint, region }: S3Options): string {
  return `bucket "${bucket}" at ${endpoint ?? `AWS ${region}`}`;
}

/**
 * Settings of S3 storage from `s3://bucket/prefix` and the environment: `S3_ENDPOINT`, `S3_REGION`, `S3_ACCESS_KEY_ID`,
 * `S3_SECRET_ACCESS_KEY` (each falling back to its `AWS_` name), `S3_PUBLIC_ENDPOINT`, `S3_FORCE_PATH_STYLE` (default:
 * true with an endpoint), `S3_PART_SIZE_MIB` (default 64), `S3_PARALLEL_PARTS` (default 4).
 *
 * @throws InvalidError `invalid_storage_url` when there is no bucket, `invalid_environment` naming a variable that is wrong
 */
export function s3OptionsOf(url: string, environment: Readonly<Record<string, string | undefined>>): S3Options {
  const matched = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(url);
  const bucket = matched?.[1];
  if (bucket === undefined)
    throw new InvalidError("invalid_storage_url", `storage URL "${url}" names no bucket: use s3://bucket/prefix`);
  const first = (...names: string[]): string | undefined => names.map((name) => environment[name]).find(Boolean);
  const endpoint = first("S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  const publicEndpoint = first("S3_PUBLIC_ENDPOINT");
  checkEndpoint("S3_ENDPOINT", endpoint);
  checkEndpoint("S3_PUBLIC_ENDPOINT", publicEndpoint);
  const accessKeyId = first("S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID");
  const secretAccessKey = first("S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY");
  const pathStyle = first("S3_FORCE_PATH_STYLE");
  const hasSessionToken = first("AWS_SESSION_TOKEN") !== undefined && first("S3_ACCESS_KEY_ID") === undefined;
  const partSizeMebibytes = wholeNumber(environment, "S3_PART_SIZE_MIB", 5);
  const hasCredentials = accessKeyId !== undefined && secretAccessKey !== undefined && !hasSessionToken;
  return {
    bucket,
    prefix: (matched?.[2] ?? "").replaceAll(/^\/+|\/+$/g, ""),
    region: first("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION") ?? "us-east-1",
    forcePathStyle: pathStyle === undefined ? endpoint !== undefined : pathStyle === "true" || pathStyle === "1",
    ...present({
      endpoint,
      publicEndpoint,
      partSizeBytes: partSizeMebibytes === undefined ? undefined : partSizeMebibytes * mebibyte,
      parallelParts: wholeNumber(environment, "S3_PARALLEL_PARTS", 1),
      credentials: hasCredentials ? { accessKeyId, secretAccessKey } : undefined,
    }),
  };
}

/** The fields that have a value. */
function present<T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as typeof fields;
}

function checkEndpoint(name: string, value: string | undefined): void {
  if (value !== undefined && !/^https?:\/\/[^/\s]+/.test(value))
    throw new InvalidError("invalid_environment", `${name} "${value}" is no URL: use http://host:port or https://host`);
}

function wholeNumber(
  environment: Readonly<Record<string, string | undefined>>,
  name: string,
  minimum: number,
): number | undefined {
  const text = environment[name];
  if (text === undefined || text === "") return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < minimum)
    throw new InvalidError("invalid_environment", `${name} "${text}" must be a whole number, ${minimum} or more`);
  return value;
}
