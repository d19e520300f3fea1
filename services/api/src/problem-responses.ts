import { Problem } from "@drydock/spec";

const problem = {
  description: "What is wrong and what to do.",
  content: { "application/problem+json": { schema: Problem } },
} as const;

/** Problems that any route behind a key may answer with, and the given ones. */
export function problems<const Status extends number>(...statuses: readonly Status[]) {
  return Object.fromEntries([400, 401, 403, ...statuses, 500, 503].map((status) => [status, problem])) as Record<
    Status | 400 | 401 | 403 | 500 | 503,
    typeof problem
  >;
}
