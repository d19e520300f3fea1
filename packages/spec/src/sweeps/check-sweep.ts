import { RunSpec } from "../contract/run-spec.ts";
import type { SweepRange, SweepSpec } from "../contract/sweep.ts";
import { changesWeights } from "../planner/warm-start.ts";
import { gridSize, trialRun } from "./space.ts";
import { plannedTrials, trialParameters } from "./trial-parameters.ts";

/** What is wrong with a sweep, by the path in its body. */
export interface SweepIssue {
  readonly path: string;
  readonly code: string;
  readonly message: string;
}

/** Fields that a sweep may not vary: they say what is compared, or who pays for it. */
const fixedFields = ["name", "dataset", "task", "queue", "priority", "evaluation", "checkpoint", "metadata"];

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
  if (issues.length > 0) return issues;
  const corners = checkCorners(spec);
  return corners.length > 0 ? corners : checkTrials(spec);
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
  if (path.split(".").includes("__proto__"))
    return [{ path: at, code: "unknown_field", message: `${path} is not a field of a run` }];
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

/** What lies between the ends may still be no run spec: a fraction where whole numbers are wanted, or fields that do not go together. */
function checkTrials(spec: SweepSpec): SweepIssue[] {
  for (let number = 1; number <= plannedTrials(spec); number++) {
    const parameters = trialParameters(spec, number);
    const issue = RunSpec.safeParse(trialRun(spec, parameters)).error?.issues[0];
    if (issue === undefined) continue;
    const path = Object.keys(parameters).find((field) => touches(issue, field.split(".")));
    return [
      path === undefined
        ? { path: "space", code: "invalid_trial", message: `trial ${number} is no valid run: ${issue.message}` }
        : {
            path: `space.${path}`,
            code: "type_clash",
            message: `${JSON.stringify(parameters[path])} does not fit ${path}: ${issue.message} (trial ${number})`,
          },
    ];
  }
  return [];
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
