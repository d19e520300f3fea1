import { InvalidError, UnavailableError } from "@drydock/kit";

/** SQLSTATE classes and codes that pass with time: connection exceptions, no connections left, shutdown, deadlock, timeouts. */
const passingStates = /^(08...|53...|57P0[1-3]|57014|40001|40P01|25P03)$/;
const passingSystemErrors = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EHOSTUNREACH",
  "ENOENT",
]);
const networkCalls = new Set(["connect", "read", "write", "getaddrinfo"]);
const passingMessages =
  /connection terminated|timeout exceeded when trying to connect|query read timeout|client has encountered a connection error|not queryable|connection ended/i;

/**
 * The error as `UnavailableError` when the call may succeed later: one already, or (`database_unavailable`) an error of
 * the database being gone or busy for now. Else null.
 */
export function asUnavailable(error: unknown): UnavailableError | null {
  if (error instanceof UnavailableError) return error;
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    const syscall = "syscall" in at && typeof at.syscall === "string" ? at.syscall : "";
    const isSystemError = networkCalls.has(syscall) && passingSystemErrors.has(code);
    const isPassing = passingStates.test(code) || isSystemError || passingMessages.test(at.message);
    if (isPassing || (at instanceof AggregateError && at.errors.some((inner) => asUnavailable(inner) !== null)))
      return new UnavailableError(
        "database_unavailable",
        "the database does not answer right now; nothing was changed: try again in a few seconds",
        { cause: error },
      );
  }
  return null;
}

/** True when a row with the same unique value is already there (SQLSTATE 23505). */
export function isUniqueViolation(error: unknown): boolean {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++)
    if ("code" in at && at.code === "23505") return true;
  return false;
}

/** The error as `InvalidError` when a text holds what no PostgreSQL text can (U+0000; SQLSTATE 22021, 22P05), else null. */
export function asUnstorableText(error: unknown): InvalidError | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++)
    if ("code" in at && (at.code === "22021" || at.code === "22P05"))
      return new InvalidError(
        "invalid_text",
        "the request holds a NUL character (U+0000), which cannot be stored: remove it",
        { cause: error },
      );
  return null;
}
