import { compareAll, type Comparison } from "./compare.ts";
import { outliers } from "./outliers.ts";
import { unusableRows } from "./rows.ts";

/** Where the generated table stands in docs/decisions/0003-memory-model.md. */
export const tableMarkers = {
  start: "<!-- table: node packages/spec/scripts/memory-table.ts --write -->",
  end: "<!-- end of table -->",
} as const;

/** Predicted against measured as Markdown: a line for each series and single run, then the reasons of the rows outside. */
export function memoryTable(): string {
  const all = compareAll();
  const within = all.filter((comparison) => comparison.isWithin).length;
  const fixed = all.filter((comparison) => comparison.row.fixedLength === true);
  const lowest = Math.min(...fixed.map((comparison) => comparison.difference));
  return [
    `${within} of ${all.length} rows (${Math.round((100 * within) / all.length)} %) lie within −10 % and +30 %. Of the ${fixed.length} rows of fixed length the lowest estimate is ${percent(lowest)}.`,
    "",
    "| row | per GPU | measured | predicted | difference | |",
    "| --- | --- | --- | --- | --- | --- |",
    ...groups(all).map(line),
    "",
    "Outside:",
    "",
    ...Object.entries(outliers).map(([id, reason]) => `- **${id}**: ${reason}.`),
    "",
    "Not usable:",
    "",
    ...unusableRows.map(({ ids, reason }) => `- ${ids}: ${reason}.`),
  ].join("\n");
}

/** Rows of one sequence-length series share everything before the length. */
function groups(all: readonly Comparison[]): Comparison[][] {
  const bySeries = new Map<string, Comparison[]>();
  for (const comparison of all) {
    const name = comparison.row.unit === "GB" ? comparison.row.id.replace(/ \d+$/, "") : comparison.row.id;
    bySeries.set(name, [...(bySeries.get(name) ?? []), comparison]);
  }
  return [...bySeries.values()];
}

function line(rows: readonly Comparison[]): string {
  const first = rows[0];
  const last = rows.at(-1);
  if (first === undefined || last === undefined) return "";
  const differences = rows.map((row) => row.difference);
  const name = rows.length === 1 ? `${first.row.id} (${first.row.model})` : `${first.row.id} … ${last.row.tokens}`;
  const span = (value: (row: Comparison) => number): string =>
    rows.length === 1 ? value(first).toFixed(1) : `${value(first).toFixed(1)} … ${value(last).toFixed(1)}`;
  const difference =
    rows.length === 1
      ? percent(first.difference)
      : `${percent(Math.min(...differences))} … ${percent(Math.max(...differences))}`;
  return `| ${name} | ${first.row.unit} | ${span((row) => row.row.measured)} | ${span((row) => row.predicted)} | ${difference} | ${rows.every((row) => row.isWithin) ? "" : "outside"} |`;
}

function percent(share: number): string {
  const rounded = Math.round(share * 100);
  return `${rounded > 0 ? "+" : rounded < 0 ? "−" : ""}${Math.abs(rounded)} %`;
}
