import type { LoraSettings } from "../contract/run-spec.ts";

/** The end of a module path. */
function leafOf(name: string): string {
  return name.slice(name.lastIndexOf(".") + 1);
}

/**
 * Kinds of decoder layers that carry adapters, for sums of parameters: names by their ends. A regular expression counts as all of them,
 * which is never too few.
 */
export function plannedTargets({ targets }: Pick<LoraSettings, "targets">): "all-linear" | readonly string[] {
  return typeof targets === "string" ? "all-linear" : [...new Set(targets.map(leafOf))];
}
