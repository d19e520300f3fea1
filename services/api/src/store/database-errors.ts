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

/**
 * The error as `InvalidError` when a request holds what PostgreSQL cannot store: U+0000 (SQLSTATE 22021, 22P05), half of a character that
 * takes two (22P02, told in its detail), or a time that no calendar of its has (22007, 22008). Else null.
 */
export function asUnstorable(error: unknown): InvalidError | null {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    const code = "code" in at && typeof at.code === "string" ? at.code : "";
    const detail = "detail" in at && typeof at.detail === "string" ? at.detail : "";
    const found = unstorable(code, detail);
    if (found !== null) return new InvalidError(found.code, found.message, { cause: error });
  }
  return null;
}

function unstorable(state: string, detail: string): { readonly code: string; readonly message: string } | null {
  if (state === "22021" || state === "22P05") {
    const message = "the request holds a NUL character (U+0000), which cannot be stored: remove it";
    return { code: "invalid_text", message };
  }
  if (state === "22P02" && detail.includes("surrogate")) {
    const message = "a text in the request holds half a character (a lone surrogate): do not cut texts there";
    return { code: "invalid_text", message };
  }
  if (state === "22007" || state === "22008")
    return { code: "invalid_time", message: "a time in the request cannot be stored: check its year" };
  return null;
}
