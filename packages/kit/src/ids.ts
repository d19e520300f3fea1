import { randomBytes } from "node:crypto";

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

/** Kinds of objects that carry a generated id; the id starts with the kind's prefix. */
export const idPrefixes = {
  run: "run",
  dataset: "ds",
  datasetVersion: "dsv",
  upload: "up",
  plan: "plan",
  model: "model",
  evaluation: "eval",
  suite: "suite",
  sweep: "sweep",
  pipeline: "pipe",
  pipelineRun: "prun",
  observation: "obs",
  event: "evt",
  webhook: "hook",
  delivery: "msg",
  key: "key",
  request: "req",
} as const;

export type IdKind = keyof typeof idPrefixes;

/**
 * A new id, e.g. `run_01jd8k3m2v9q4x7c5t1w`: 48 bits of time (so ids sort by age) and 52 random bits,
 * Crockford base 32 in lower case, safe in file names, Kubernetes names (with `_` replaced) and URLs.
 */
export function newId(kind: IdKind, nowMs: number = Date.now()): string {
  let time = "";
  let rest = nowMs;
  for (let index = 0; index < 10; index++) {
    time = alphabet.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  const random = [...randomBytes(10)].map((byte) => alphabet.charAt(byte % 32)).join("");
  return `${idPrefixes[kind]}_${time}${random}`;
}
