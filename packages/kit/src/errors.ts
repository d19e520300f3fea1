/** A JSON-shaped place in the input that an error is about: field, row or file. */
export interface ErrorDetail {
  /** Path of the field (`training.lora.rank`), the row (`row 17`) or the file (`images/a.jpg`). */
  readonly path: string;
  /** Stable machine-readable code of this detail, snake_case. */
  readonly code: string;
  /** One sentence a person reads: names the value and says what to do. */
  readonly message: string;
}

export interface DrydockErrorOptions {
  readonly cause?: unknown;
  readonly details?: readonly ErrorDetail[];
}

const marker = Symbol.for("drydock.error");

/**
 * Root of all errors that Drydock throws on purpose. The subclass says what the caller must do:
 * change the request (`InvalidError`), look elsewhere (`NotFoundError`), reload and decide (`ConflictError`),
 * ask for rights (`ForbiddenError`, `UnauthenticatedError`), or wait and retry (`UnavailableError`).
 */
export abstract class DrydockError extends Error {
  /** Stable, documented, snake_case. */
  readonly code: string;
  /** HTTP status that the REST API answers with. */
  abstract readonly status: number;
  /** True when the same call may succeed later without a change. */
  readonly isRetryable: boolean = false;
  readonly details: readonly ErrorDetail[];
  readonly [marker] = true;

  constructor(code: string, message: string, options: DrydockErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.details = options.details ?? [];
  }
}

/** The request or the data is wrong: the caller must change it. */
export class InvalidError extends DrydockError {
  override readonly status: number = 400;
}

/** Well-formed but refused, e.g. an impossible combination or an idempotency key reused with another body. */
export class UnprocessableError extends InvalidError {
  override readonly status = 422;
}

/** A body, an archive or a picture over its limit. */
export class TooLargeError extends InvalidError {
  override readonly status = 413;
}

/** No key, or an unknown one. */
export class UnauthenticatedError extends DrydockError {
  override readonly status = 401;
}

/** The key is known but lacks the scope. */
export class ForbiddenError extends DrydockError {
  override readonly status = 403;
}

/** The named thing does not exist. */
export class NotFoundError extends DrydockError {
  override readonly status = 404;
}

/** The state of the thing forbids the call (already there, already over, changed meanwhile). */
export class ConflictError extends DrydockError {
  override readonly status: number = 409;
}

/** An `If-Match` guard or a fence failed: reload, then decide. */
export class PreconditionFailedError extends ConflictError {
  override readonly status = 412;
}

/** A dependency does not answer right now: the only retryable kind. */
export class UnavailableError extends DrydockError {
  override readonly status: number = 503;
  override readonly isRetryable = true;
}

/** A disk or a quota is full: a person must make room, then the same call succeeds. */
export class InsufficientStorageError extends UnavailableError {
  override readonly status = 507;
}

/** Recognises a Drydock error across package copies. */
export function isDrydockError(error: unknown): error is DrydockError {
  return typeof error === "object" && error !== null && (error as { [marker]?: unknown })[marker] === true;
}

/** The text of any thrown value, for messages and logs. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
