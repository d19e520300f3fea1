import { RunSpec, type RunSpecInput } from "../contract/run-spec.ts";
import type { SweepRange, SweepSpec } from "../contract/sweep.ts";
import { changesWeights } from "../planner/warm-start.ts";
import { rungSteps } from "./rungs.ts";

/** What is wrong with a sweep, by the path in its body. */
export interface SweepIssue {
  readonly path: string;
  readonly code: string;
  readonly message: string;
}

/** Fields that a sweep may not vary: they say what is compared, or who pays for it. */
const fixedFields = ["name", "dataset", "task", "queue", "priority", "evaluation", "checkpoint", "metadata"];

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

/** What is wrong with the space and the search of a sweep; empty when nothing is. */
export function checkSweep(spec: SweepSpec): SweepIssue[] {
  const paths = Object.keys(spec.space);
  if (paths.length === 0)
    return [
      {
        path: "space",
        code: "empty_space",
        message: 'the space is empty: name at least one field to vary, e.g. "training.learningRate"',
      },
    ];
  const issues = [
    ...checkSearch(spec),
    ...paths.flatMap((path) => checkRange(path, spec.space[path] as SweepRange)),
    ...paths.flatMap((path) => checkOverlap(path, paths)),
    ...paths.flatMap((path) => checkWarmStart(path, spec)),
  ];
  return issues.length > 0 ? issues : checkCorners(spec);
}

function checkSearch({ search, space }: SweepSpec): SweepIssue[] {
  if (search.kind === "grid") {
    const count = gridSize(space, search.points);
    return count <= 500
      ? []
      : [
          {
            path: "search",
            code: "grid_too_large",
            message: `the grid has ${count} points, more than 500: use fewer points or fields, or a random search`,
          },
        ];
  }
  if (search.kind === "asha" && search.maxSteps <= search.minSteps)
    return [
      {
        path: "search.maxSteps",
        code: "no_rungs",
        message: `maxSteps (${search.maxSteps}) must be above minSteps (${search.minSteps}): there is nothing to stop early otherwise`,
      },
    ];
  if (search.kind === "asha" && space["training.maxSteps"] !== undefined)
    return [
      {
        path: "space.training.maxSteps",
        code: "fixed_field",
        message: "the steps of a trial are the search's to decide: leave training.maxSteps out of the space",
      },
    ];
  return [];
}

function checkRange(path: string, range: SweepRange): SweepIssue[] {
  const at = `space.${path}`;
  const [first = ""] = path.split(".");
  if (fixedFields.includes(first))
    return [{ path: at, code: "fixed_field", message: `${path} is the same for all trials and cannot be varied` }];
  if (range.type === "choice") return [];
  if (range.low >= range.high)
    return [
      {
        path: at,
        code: "empty_range",
        message: `low (${range.low}) must be below high (${range.high}): nothing lies between them`,
      },
    ];
  if (range.type === "log" && range.low <= 0)
    return [
      {
        path: at,
        code: "log_of_zero",
        message: `low (${range.low}) must be above 0 for a logarithmic range: use "linear", or a small positive low`,
      },
    ];
  return [];
}

function checkOverlap(path: string, paths: readonly string[]): SweepIssue[] {
  const inner = paths.find((other) => other.startsWith(`${path}.`));
  return inner === undefined
    ? []
    : [
        {
          path: `space.${inner}`,
          code: "overlapping_fields",
          message: `${inner} lies inside ${path}, which is varied too`,
        },
      ];
}

function checkWarmStart(path: string, { run }: SweepSpec): SweepIssue[] {
  if (run.warmStart === undefined || !changesWeights(path)) return [];
  const message = `trials of different ${path} train different weights, so they cannot all begin from the checkpoint of run.warmStart: leave one of the two out`;
  return [{ path: `space.${path}`, code: "warm_start_mismatch", message }];
}

/** Every value that ends a range, and every choice, must make a run spec: a type clash shows here, not in trial 37. */
function checkCorners(spec: SweepSpec): SweepIssue[] {
  const first = Object.fromEntries(Object.entries(spec.space).map(([path, range]) => [path, corners(range)[0]]));
  const base = RunSpec.safeParse(trialRun(spec, first));
  const issues: SweepIssue[] = [];
  for (const [path, range] of Object.entries(spec.space))
    for (const value of corners(range)) {
      const parsed = RunSpec.safeParse(trialRun(spec, { ...first, [path]: value }));
      const clash = parsed.error?.issues.find((issue) => touches(issue, path.split(".")));
      if (clash)
        issues.push({
          path: `space.${path}`,
          code: "type_clash",
          message: `${JSON.stringify(value)} does not fit ${path}: ${clash.message}`,
        });
      if (clash) break;
    }
  if (issues.length > 0 || base.success) return issues;
  return base.error.issues.map(({ path, message }) => ({
    path: ["run", ...path].join("."),
    code: "invalid_run",
    message: `the run spec that trials share is not valid: ${message}`,
  }));
}

/** Whether an issue is about this field: at it, inside it, or an unknown key of this name. */
function touches(
  issue: { readonly path: readonly PropertyKey[]; readonly keys?: readonly string[] },
  field: readonly string[],
): boolean {
  const at = issue.path.map(String);
  const isAt = (parts: readonly string[]): boolean => field.every((part, index) => parts[index] === part);
  if (isAt(at)) return true;
  if (issue.keys?.some((key) => isAt([...at, key]) || field.join(".").startsWith([...at, key].join(".")))) return true;
  // An object was expected where the field wants to go deeper.
  return at.length > 0 && at.length < field.length && at.every((part, index) => field[index] === part);
}

function corners(range: SweepRange): readonly unknown[] {
  return range.type === "choice" ? range.values : [range.low, range.high];
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
      return rounded(Math.exp(Math.log(range.low) + share * (Math.log(range.high) - Math.log(range.low))));
    case "linear":
      return rounded(range.low + share * (range.high - range.low));
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
