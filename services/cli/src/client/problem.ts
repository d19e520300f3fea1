import {
  ConflictError,
  ForbiddenError,
  InvalidError,
  NotFoundError,
  PreconditionFailedError,
  TooLargeError,
  UnauthenticatedError,
  UnavailableError,
  UnprocessableError,
  type DrydockError,
  type DrydockErrorOptions,
  type ErrorDetail,
} from "@drydock/kit";
import { Problem } from "@drydock/spec";

const errorsByStatus: Readonly<
  Record<number, new (code: string, message: string, options: DrydockErrorOptions) => DrydockError>
> = {
  401: UnauthenticatedError,
  403: ForbiddenError,
  404: NotFoundError,
  409: ConflictError,
  412: PreconditionFailedError,
  413: TooLargeError,
  422: UnprocessableError,
};

/** The error that an answer with a status of 400 or more stands for. The message is the server's own sentence. */
export function problemError(status: number, body: string): DrydockError {
  const problem = readProblem(body);
  const details: readonly ErrorDetail[] = problem?.errors ?? [];
  const request = problem?.requestId === undefined || status < 500 ? "" : ` (request ${problem.requestId})`;
  const message =
    problem === null
      ? `the server answered ${status}: ${firstLine(body)}`
      : `${problem.detail || problem.title}${request}`;
  const code = problem?.code ?? `http_${status}`;
  const options = { details };
  const ErrorOfStatus = errorsByStatus[status];
  if (ErrorOfStatus !== undefined) return new ErrorOfStatus(code, message, options);
  return status >= 500 || status === 429
    ? new UnavailableError(code, message, options)
    : new InvalidError(code, message, options);
}

function readProblem(body: string): Problem | null {
  try {
    return Problem.parse(JSON.parse(body));
  } catch {
    return null; // Not problem+json: something between us and the server answered.
  }
}

function firstLine(body: string): string {
  const line = body.split("\n", 1)[0]!.slice(0, 200).trim();
  return line === "" ? "(empty answer)" : line;
}
