import type { Difference } from "./parity/fidelity-record.ts";

/** The order of the checks in the table; others follow by name. */
const order = [
  "pixel values",
  "logits",
  "logits with adapter",
  "gradients (relative)",
  "loss of 20 steps, full",
  "loss of 20 steps, lora",
  "greedy tokens that differ",
  "round trip, full",
  "round trip, adapter",
  "round trip, adapter merged",
];

/** A Markdown table, family × check, of the worst differences; a check that a family does not have is left empty. */
export function fidelityTable(differences: readonly Difference[]): string {
  const found = [...new Set(differences.map(({ check }) => check))];
  const checks = [
    ...order.filter((check) => found.includes(check)),
    ...found.filter((check) => !order.includes(check)).toSorted(),
  ];
  const families = [...new Set(differences.map(({ family }) => family))].toSorted();
  const cell = (family: string, check: string): string => {
    const own = differences.filter((each) => each.family === family && each.check === check);
    return own.length === 0 ? "" : written(Math.max(...own.map(({ difference }) => difference)));
  };
  const shapes = (family: string): number =>
    new Set(differences.filter((each) => each.family === family && each.shape !== "-").map(({ shape }) => shape)).size;
  const rows = families.map((family) => [
    family,
    String(shapes(family)),
    ...checks.map((check) => cell(family, check)),
  ]);
  const head = ["family", "shapes", ...checks];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

function written(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toExponential(1);
}
