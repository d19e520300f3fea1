import { createHash } from "node:crypto";
import type { SweepRange, SweepSpec } from "../contract/sweep.ts";
import { between, gridSize, gridValues, type Parameters } from "./space.ts";

/** How many trials a sweep will make. */
export function plannedTrials({ search, space }: Pick<SweepSpec, "search" | "space">): number {
  return search.kind === "grid" ? gridSize(space, search.points) : search.trials;
}

/**
 * The settings of a trial. They follow from the sweep's spec and the trial's number alone, so that whoever starts trial 7, and
 * however often, starts the same one.
 *
 * @param number  1 to `plannedTrials`
 */
export function trialParameters({ search, space }: Pick<SweepSpec, "search" | "space">, number: number): Parameters {
  const fields = Object.entries(space);
  if (search.kind === "grid") return gridPoint(fields, search.points, number - 1);
  return Object.fromEntries(
    fields.map(([path, range]) => [path, drawn(range, uniform(`${search.seed}/${number}/${path}`))]),
  );
}

/** The last field changes fastest. */
function gridPoint(fields: readonly (readonly [string, SweepRange])[], points: number, index: number): Parameters {
  const parameters: Record<string, unknown> = {};
  let rest = index;
  for (const [path, range] of fields.toReversed()) {
    const values = gridValues(range, points);
    parameters[path] = values[rest % values.length];
    rest = Math.floor(rest / values.length);
  }
  return Object.fromEntries(fields.map(([path]) => [path, parameters[path]]));
}

function drawn(range: SweepRange, share: number): unknown {
  switch (range.type) {
    case "choice":
      return range.values[Math.floor(share * range.values.length)];
    case "int":
      return range.low + Math.floor(share * (range.high - range.low + 1));
    default:
      return between(range, share);
  }
}

/** A number in [0, 1) from the first 53 bits of a digest. */
function uniform(text: string): number {
  const digest = createHash("sha256").update(text).digest();
  return (digest.readUInt32BE(0) * 2 ** 21 + (digest.readUInt32BE(4) >>> 11)) / 2 ** 53;
}
