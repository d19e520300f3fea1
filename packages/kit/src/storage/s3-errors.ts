import {
  InvalidError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  isDrydockError,
  messageOf,
} from "../errors.ts";

/** What a message about a failed call can name. */
export interface S3CallFacts {
  readonly key: string;
  readonly bucket: string;
  readonly region: string;
  /** `bucket "weights" at http://minio:9000` */
  readonly place: string;
  /** Null when the SDK finds its credentials by itself. */
  readonly accessKeyId: string | null;
}

/** Codes of a connection that was not made or broke: the request may be sent again. */
const connectionCodes = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ERR_STREAM_PREMATURE_CLOSE",
]);
const connectionNames = new Set(["TimeoutError", "RequestTimeout", "RequestTimeoutException", "NetworkingError"]);
const localDiskCodes = new Set(["ENOSPC", "EDQUOT"]);
const certificateCodes = new Set([
  "CERT_HAS_EXPIRED",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);
/** What the SDK throws, without status or code, when a body does not have the checksum of its header. */
const checksumPattern = /^Checksum mismatch: expected "(.+?)" but received "(.+?)"/;
/** Names of answers that time heals although their status says that the request is wrong. */
const passingNames = new Set(["BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "NoSuchUpload"]);
const fullNames = new Set(["NoSpaceLeftOnDevice", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"]);

/**
 * Our error for what the S3 SDK or a stream of it threw, by the server's error code, HTTP status or connection code. A
 * wrong setting is an `InvalidError` that names the setting; what may pass with time is an `UnavailableError`.
 */
export function translateS3Error(error: unknown, call: S3CallFacts): Error {
  if (isDrydockError(error)) return error;
  const facts = factsOf(error);
  return (
    diskErrorOf(error, facts, call) ??
    settingErrorOf(error, facts, call) ??
    certificateErrorOf(error, facts, call) ??
    objectErrorOf(error, facts, call) ??
    passingErrorOf(error, facts, call) ??
    (facts.status === null ? asError(error) : refused(error, facts, call))
  );
}

function diskErrorOf(error: unknown, { code, name }: ErrorFacts, { key, place }: S3CallFacts): Error | null {
  if (localDiskCodes.has(code))
    return new UnavailableError(
      "storage_full",
      `the local disk is full: object "${key}" was not copied; free space, then the run goes on by itself`,
      { cause: error },
    );
  if (fullNames.has(name))
    return new UnavailableError(
      "storage_full",
      `storage is full (${name}): object "${key}" was not written to ${place}; free space there, then the run goes on by itself`,
      { cause: error },
    );
  return null;
}

/** Errors that a person must mend: address, keys, region, clock, rights. */
function settingErrorOf(error: unknown, facts: ErrorFacts, call: S3CallFacts): Error | null {
  const { place, bucket } = call;
  const accessKey = call.accessKeyId === null ? "the access key" : `the access key "${call.accessKeyId}"`;
  const invalid = (code: string, message: string): Error => new InvalidError(code, message, { cause: error });
  switch (facts.name) {
    case "NoSuchBucket":
      return invalid(
        "no_such_bucket",
        `storage has no ${place}: create it, or correct the bucket in STORAGE_URL (s3://${bucket})`,
      );
    case "InvalidBucketName":
      return invalid("no_such_bucket", `"${bucket}" is no name of a bucket: correct STORAGE_URL (s3://${bucket})`);
    case "InvalidAccessKeyId":
    case "XAdminUserNotFound": // versitygw without accounts of its own, with status 404
      return invalid("storage_refused", `${place} does not know ${accessKey}: correct S3_ACCESS_KEY_ID`);
    case "SignatureDoesNotMatch":
      return invalid(
        "storage_refused",
        `${place} refused the signature: S3_SECRET_ACCESS_KEY does not belong to ${accessKey}`,
      );
    case "ExpiredToken":
    case "InvalidToken":
      return invalid("storage_refused", `${place} refused the session token (${facts.name}): renew AWS_SESSION_TOKEN`);
    case "CredentialsProviderError":
      return invalid(
        "storage_refused",
        `no credentials for ${place} were found: set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY`,
      );
    case "AuthorizationHeaderMalformed":
    case "PermanentRedirect":
    case "IllegalLocationConstraintException":
      return invalid(
        "wrong_region",
        facts.region === null
          ? `${place} is not in region "${call.region}" (${facts.message}): correct S3_REGION`
          : `${place} is in region "${facts.region}", not "${call.region}": set S3_REGION=${facts.region}`,
      );
    case "RequestTimeTooSkewed":
      // Not final: the SDK learns the server's time from its answer, and clocks are set right by themselves.
      return new UnavailableError(
        "clock_skewed",
        `${place} refused a request for its time: the clock of this machine (${new Date().toISOString()}) and that of storage are more than 15 minutes apart; set them right (NTP)`,
        { cause: error },
      );
    default:
      return null;
  }
}

function certificateErrorOf(error: unknown, { code }: ErrorFacts, { place }: S3CallFacts): Error | null {
  const invalid = (message: string): Error => new InvalidError("storage_certificate", message, { cause: error });
  if (certificateCodes.has(code))
    return invalid(
      `the certificate of ${place} is not trusted (${code}): correct S3_ENDPOINT, or name the authority's file in NODE_EXTRA_CA_CERTS`,
    );
  return code === "EPROTO" ? invalid(`${place} does not speak TLS: use http:// in S3_ENDPOINT`) : null;
}

function objectErrorOf(error: unknown, { status, name }: ErrorFacts, call: S3CallFacts): Error | null {
  const { key, place } = call;
  if (passingNames.has(name)) return null;
  switch (status) {
    case 404:
      return new NotFoundError("object_not_found", `there is no object "${key}" in storage`, { cause: error });
    case 412:
      return new PreconditionFailedError("object_exists", `object "${key}" exists already`, { cause: error });
    case 401:
    case 403:
      return new InvalidError(
        "storage_refused",
        `${place} refused object "${key}" (${status} ${name}): check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, and that they may s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket there`,
        { cause: error },
      );
    default:
      return null;
  }
}

function passingErrorOf(error: unknown, facts: ErrorFacts, { key }: S3CallFacts): Error | null {
  const { status, code, name, message } = facts;
  const [, received, stored] = checksumPattern.exec(message) ?? [];
  if (received !== undefined && stored !== undefined) return damagedOnItsWay(key, received, stored);
  const isPassing =
    status !== null
      ? status >= 500 || status === 429 || status === 408 || status === 409 || passingNames.has(name)
      : connectionCodes.has(code) || connectionNames.has(name);
  if (!isPassing) return null;
  const answered = status === null ? `does not answer (${code === "" ? name : code})` : `answers ${status}`;
  return new UnavailableError("storage_unavailable", `storage ${answered} for object "${key}"`, { cause: error });
}

/** @param received  checksum of the bytes that came, base64 */
export function damagedOnItsWay(key: string, received: string, stored: string): Error {
  return new UnavailableError(
    "storage_damaged",
    `object "${key}" arrived damaged: its checksum is ${received}, storage says ${stored}`,
  );
}

function refused(error: unknown, { status, name, message }: ErrorFacts, { key, place }: S3CallFacts): Error {
  return new InvalidError(
    "storage_refused",
    `${place} refused object "${key}" (${status} ${name}): ${message === "" ? "check S3_ENDPOINT, S3_REGION and the keys" : message}`,
    { cause: error },
  );
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}

interface ErrorFacts {
  readonly status: number | null;
  readonly code: string;
  readonly name: string;
  readonly message: string;
  /** Where the server says that the bucket is. */
  readonly region: string | null;
}

function factsOf(error: unknown): ErrorFacts {
  if (!(error instanceof Error)) return { status: null, code: "", name: "", message: "", region: null };
  const metadata = "$metadata" in error ? (error.$metadata as { httpStatusCode?: number }) : {};
  const direct = {
    status: metadata.httpStatusCode ?? null,
    code: "code" in error ? String(error.code) : "",
    name: error.name,
    message: error.message,
    region: "Region" in error && typeof error.Region === "string" ? error.Region : null,
  };
  if (direct.status !== null || direct.code !== "" || error.cause === undefined) return direct;
  const cause = factsOf(error.cause);
  return { ...cause, name: direct.name === "Error" ? cause.name : direct.name };
}
