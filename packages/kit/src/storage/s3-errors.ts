import {
  InvalidError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  isDrydockError,
  messageOf,
} from "../errors.ts";

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

/** Our error for what the S3 SDK or a stream of it threw, by HTTP status or connection code. */
export function translateS3Error(key: string, error: unknown): Error {
  if (isDrydockError(error)) return error;
  const { status, code, name } = factsOf(error);
  if (localDiskCodes.has(code)) {
    return new UnavailableError(
      "storage_full",
      `the local disk is full: object "${key}" was not copied; free space, then the run goes on by itself`,
      { cause: error },
    );
  }
  switch (status) {
    case 404:
      return name === "NoSuchBucket"
        ? new InvalidError(
            "no_such_bucket",
            `the storage has no such bucket (object "${key}"): create it or correct the storage URL`,
            { cause: error },
          )
        : new NotFoundError("object_not_found", `there is no object "${key}" in storage`, { cause: error });
    case 412:
      return new PreconditionFailedError("object_exists", `object "${key}" exists already`, { cause: error });
    case 401:
    case 403:
      return new InvalidError(
        "storage_refused",
        `storage refused object "${key}" (${status} ${name}): check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and the bucket's policy`,
        { cause: error },
      );
    default:
  }
  const isPassing =
    status !== null
      ? status >= 500 || status === 429 || status === 408 || status === 409
      : connectionCodes.has(code) || connectionNames.has(name);
  if (isPassing) {
    const answered = status === null ? `does not answer (${code === "" ? name : code})` : `answers ${status}`;
    return new UnavailableError("storage_unavailable", `storage ${answered} for object "${key}"`, { cause: error });
  }
  return error instanceof Error ? error : new Error(messageOf(error));
}

interface ErrorFacts {
  readonly status: number | null;
  readonly code: string;
  readonly name: string;
}

function factsOf(error: unknown): ErrorFacts {
  if (!(error instanceof Error)) return { status: null, code: "", name: "" };
  const metadata = "$metadata" in error ? (error.$metadata as { httpStatusCode?: number }) : {};
  const direct = {
    status: metadata.httpStatusCode ?? null,
    code: "code" in error ? String(error.code) : "",
    name: error.name,
  };
  if (direct.status !== null || direct.code !== "" || error.cause === undefined) return direct;
  const cause = factsOf(error.cause);
  return { ...cause, name: direct.name === "Error" ? cause.name : direct.name };
}
