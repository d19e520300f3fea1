import { InvalidError, type ErrorDetail } from "@drydock/kit";
import type { FastifySchemaCompiler } from "fastify";
import { safeParse, type $ZodIssue, type $ZodType } from "zod/v4/core";

/** Checks parts of a request by their zod schemas; what does not fit becomes an `InvalidError` with a detail per field. */
export const requestValidatorCompiler: FastifySchemaCompiler<$ZodType> =
  ({ schema, httpPart }) =>
  (data) => {
    const result = safeParse(schema, data);
    return result.success
      ? { value: result.data }
      : { error: invalidRequest(result.error.issues, data, httpPart ?? "body") };
  };

/** `InvalidError` `invalid_request` whose message names each field that is wrong. */
export function invalidRequest(issues: readonly $ZodIssue[], input: unknown, part: string): InvalidError {
  const details = issues.flatMap((issue) => detailsOf(issue, input, []));
  const message = details
    .slice(0, 10)
    .map((detail) => (detail.path === "" ? detail.message : `${detail.path}: ${detail.message}`))
    .join("; ");
  const more = details.length > 10 ? ` (and ${details.length - 10} more)` : "";
  return new InvalidError(
    "invalid_request",
    (input === undefined || input === null) && part === "body"
      ? "the request has no body: send a JSON object"
      : `${message}${more}`,
    { details },
  );
}

function detailsOf(issue: $ZodIssue, input: unknown, prefix: readonly PropertyKey[]): ErrorDetail[] {
  const path = [...prefix, ...issue.path];
  if (issue.code === "unrecognized_keys")
    return issue.keys.map((key) => ({
      path: pathText([...path, key]),
      code: "unknown_key",
      message: `there is no field "${key}" here: check its spelling, or leave it out`,
    }));
  if (issue.code === "invalid_union" && issue.errors.length > 0) {
    // Of the alternatives, the one that came furthest says best what is wrong.
    const nearest = issue.errors.reduce((best, branch) => (depthOf(branch) > depthOf(best) ? branch : best));
    return nearest.flatMap((inner) => detailsOf(inner, input, path));
  }
  return [
    {
      path: pathText(path),
      code: issue.code,
      message: `${lowerFirst(issue.message)}${described(valueAt(input, path))}`,
    },
  ];
}

/** How deep the issues of a branch of a union lie; 0 when the value is not even of the branch's type. */
function depthOf(branch: readonly $ZodIssue[]): number {
  return Math.max(
    0,
    ...branch.map(
      (issue) => issue.path.length + (issue.code === "invalid_type" || issue.code === "invalid_value" ? 0 : 1),
    ),
  );
}

function pathText(path: readonly PropertyKey[]): string {
  return path.map(String).join(".");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === "object" && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    input,
  );
}

/** The value itself, when it is short enough to be of use. */
function described(value: unknown): string {
  if (value === undefined || (typeof value === "object" && value !== null)) return "";
  const text = JSON.stringify(value);
  return text === undefined ? "" : ` (it is ${text.length > 60 ? `${text.slice(0, 57)}…` : text})`;
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
