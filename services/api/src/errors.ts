import { isDrydockError, type DrydockError, type ErrorDetail, type Logger } from "@drydock/kit";
import type { Problem } from "@drydock/spec";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { asUnavailable, asUnstorable } from "./store/database-errors.ts";

/** Seconds after which a client that got a 503 may try again. */
const retryAfterSeconds = 5;

/** Codes and sentences for errors that Fastify throws itself, by its code. */
const frameworkErrors: Readonly<Record<string, { code: string; message: string; status?: number }>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: {
    code: "invalid_json",
    message: "the body is not valid JSON: check brackets, quotes and commas",
  },
  FST_ERR_CTP_EMPTY_JSON_BODY: {
    code: "empty_body",
    message: "the body is empty, but its content-type is application/json: send a JSON object",
  },
  FST_ERR_CTP_BODY_TOO_LARGE: {
    code: "body_too_large",
    message: "the body is larger than this route takes: send files to POST /v1/datasets/{name}/uploads",
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    code: "unsupported_media_type",
    message: "this route does not take that content-type: send application/json (or multipart/form-data for uploads)",
  },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    code: "invalid_content_length",
    message: "the body's size differs from its content-length header",
  },
  FST_INVALID_MULTIPART_CONTENT_TYPE: {
    status: 415,
    code: "unsupported_media_type",
    message: "send the files as multipart/form-data",
  },
  FST_REQ_FILE_TOO_LARGE: { code: "file_too_large", message: "a file is larger than uploads may be" },
  FST_FILES_LIMIT: {
    code: "too_many_files",
    message: "there are more files than one upload may hold: send them as one archive",
  },
  FST_PARTS_LIMIT: {
    code: "too_many_files",
    message: "there are more parts than one upload may hold: send the files as one archive",
  },
};

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  429: "Too Many Requests",
  500: "Internal Server Error",
  503: "Service Unavailable",
  507: "Insufficient Storage",
};

interface ProblemInput {
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly errors?: readonly ErrorDetail[];
}

function problemBody(input: ProblemInput, requestId: string): Problem {
  const { status, code, detail, errors = [] } = input;
  return {
    type: `urn:drydock:problem:${code}`,
    title: titles[status] ?? "Error",
    status,
    code,
    detail,
    requestId,
    errors: [...errors],
  };
}

/** Answers with `application/problem+json` (RFC 9457). */
export async function sendProblem(reply: FastifyReply, input: ProblemInput): Promise<FastifyReply> {
  if (input.status === 503) reply.header("retry-after", String(retryAfterSeconds));
  if (input.status === 401) reply.header("www-authenticate", "Bearer");
  // Sent as text: the body is complete, whatever schema the route has for this status.
  return await reply
    .code(input.status)
    .type("application/problem+json; charset=utf-8")
    .serializer((body: unknown) => JSON.stringify(body))
    .send(problemBody(input, reply.request.id));
}

/** The one place where errors become answers. Texts of unexpected errors are logged, never sent. */
export function installErrorHandling(app: FastifyInstance, logger: Logger): void {
  const routes: RoutePattern[] = [];
  app.addHook("onRoute", ({ method, url }) => {
    for (const each of [method].flat()) routes.push({ method: each, segments: url.split("/") });
  });
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    const problem = problemOf(error);
    if (problem.status >= 500) {
      const level = problem.status === 503 || problem.status === 507 ? "warn" : "error";
      logger[level](
        { err: error, requestId: request.id, method: request.method, route: request.routeOptions.url },
        "request failed",
      );
    }
    return await sendProblem(reply, problem);
  });
  app.setNotFoundHandler(async (request, reply) => await sendProblem(reply, notFoundProblem(routes, request, reply)));
}

/** Answers a request whose URL Fastify could not even read. */
export function answerUnreadableUrl(_error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const detail = `the address "${request.url.slice(0, 200)}" is not a valid URL: check its % escapes`;
  void sendProblem(reply, { status: 400, code: "invalid_url", detail });
}

function problemOf(error: FastifyError): ProblemInput {
  if (isDrydockError(error)) return problemOfDrydockError(error);
  const translated = asUnavailable(error) ?? asUnstorable(error);
  if (translated !== null) return problemOfDrydockError(translated);
  const known = frameworkErrors[error.code];
  if (known !== undefined)
    return { status: known.status ?? error.statusCode ?? 400, code: known.code, detail: known.message };
  const status = error.statusCode ?? 500;
  if (status >= 400 && status < 500) return { status, code: "bad_request", detail: error.message };
  return {
    status: 500,
    code: "internal_error",
    detail: "something went wrong in the server; it is in its log under the requestId",
  };
}

function problemOfDrydockError(error: DrydockError): ProblemInput {
  return { status: error.status, code: error.code, detail: error.message, errors: error.details };
}

/** 405 with `Allow` for a path that other methods have, else 404. */
function notFoundProblem(routes: readonly RoutePattern[], request: FastifyRequest, reply: FastifyReply): ProblemInput {
  const url = request.url.split("?")[0]!;
  const segments = url.split("/");
  const allowed = [
    ...new Set(routes.filter((route) => isMatch(route.segments, segments)).map((route) => route.method)),
  ];
  if (allowed.length === 0)
    return { status: 404, code: "route_not_found", detail: `there is nothing at ${url}: see /docs for what there is` };
  reply.header("allow", allowed.join(", "));
  return {
    status: 405,
    code: "method_not_allowed",
    detail: `${url} does not take ${request.method}: use ${allowed.join(" or ")}`,
  };
}

interface RoutePattern {
  readonly method: string;
  readonly segments: readonly string[];
}

function isMatch(pattern: readonly string[], segments: readonly string[]): boolean {
  if (pattern.at(-1) !== "*" && pattern.length !== segments.length) return false;
  return pattern.every((part, index) => part === "*" || part.startsWith(":") || part === segments[index]);
}
