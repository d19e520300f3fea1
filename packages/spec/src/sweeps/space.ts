import type { RunSpecInput } from "../contract/run-spec.ts";
import type { SweepRange, SweepSpec } from "../contract/sweep.ts";
import { rungSteps } from "./rungs.ts";

/** A setting of each field of the space. */
export type Parameters = Readonly<Record<string, unknown>>;

/** The run spec of a trial: the shared one with its settings, its evaluations at the rungs. */
export function trialRun({ run, search }: Pick<SweepSpec, "run" | "search">, parameters: Parameters): RunSpecInput {
  const spec = structuredClone(run);
  for (const [path, value] of Object.entries(parameters)) setAt(spec, path.split("."), value);
  if (search.kind === "asha") {
    setAt(spec, ["training", "maxSteps"], search.maxSteps);
    setAt(spec, ["evaluation", "atSteps"], rungSteps(search));
  }
  return spec as RunSpecInput;
}

export function gridSize(space: SweepSpec["space"], points: number): number {
  return Object.values(space).reduce((count, range) => count * gridValues(range, points).length, 1);
}

/** The values of a range in a grid, ends included. */
export function gridValues(range: SweepRange, points: number): readonly unknown[] {
  if (range.type === "choice") return range.values;
  const at = (share: number): number => between(range, share);
  const values = points === 1 ? [at(0.5)] : Array.from({ length: points }, (_, index) => at(index / (points - 1)));
  return [...new Set(values)];
}

/** The value at a share 0..1 of a range. */
export function between(range: Exclude<SweepRange, { type: "choice" }>, share: number): number {
  if (share === 0) return range.low;
  if (share === 1) return range.high;
  switch (range.type) {
    case "log":
      return within(
        range,
        rounded(Math.exp(Math.log(range.low) + share * (Math.log(range.high) - Math.log(range.low)))),
      );
    case "linear":
      return within(range, rounded(range.low + share * (range.high - range.low)));
    case "int":
      return Math.round(range.low + share * (range.high - range.low));
  }
}

/** Four digits say all that a setting can be told by, and are readable in a table. */
function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function setAt(target: Record<string, unknown>, [key, ...rest]: readonly string[], value: unknown): void {
  if (key === undefined || key === "__proto__") return;
  if (rest.length === 0) {
    target[key] = value;
    return;
  }
  const inner = target[key];
  const next = typeof inner === "object" && inner !== null && !Array.isArray(inner) ? { ...inner } : {};
  target[key] = next;
  setAt(next as Record<string, unknown>, rest, value);
}

/** Rounding may lead out of a range that is narrower than its last digit. */
function within({ low, high }: { readonly low: number; readonly high: number }, value: number): number {
  return Math.min(high, Math.max(low, value));
}
