import type { ChangedRow, EvaluationComparison, PairedComparison } from "@drydock/spec";
import type { Command } from "commander";
import { table } from "../output/table.ts";
import { contextOf } from "./context.ts";

const shownRows = 10;

/** `drydock evaluate compare`: is one model better than another on the same rows? */
export function addCompareCommand(evaluate: Command): void {
  evaluate
    .command("compare")
    .argument("<a>", "id of an evaluation")
    .argument("<b>", "id of the evaluation that it is compared with")
    .option("--metric <name>", "instead of the headline of the first")
    .option("--slice <name>", "only these rows, e.g. night, tag:night, class:dog, size:small")
    .description("two evaluations on their common rows: difference, interval, p-value, rows that changed")
    .action(async function (
      this: Command,
      a: string,
      b: string,
      { metric, slice }: { readonly metric?: string; readonly slice?: string },
    ) {
      const { evaluation, output } = contextOf(this);
      const compared = await evaluation().compare({ a, b, metric, slice });
      output.answer(compared, () => describeComparison(compared));
    });
}

export function describeComparison(compared: EvaluationComparison): string[] {
  const { a, b, overall, slices, onlyInA, onlyInB, wonCount, lostCount, won, lost } = compared;
  const left = onlyInA + onlyInB;
  return [
    `a: ${a.model} on ${a.dataset} (${a.evaluationId})`,
    `b: ${b.model} on ${b.dataset} (${b.evaluationId})`,
    "",
    ...table(
      ["rows of", "rows", `a ${overall.metric}`, "b", "a − b", "95 %", "p"],
      [overall, ...slices].map(comparisonCells),
    ),
    ...(left === 0 ? [] : ["", `${left} rows that only one of them has do not count.`]),
    "",
    `${wonCount} rows are better in a, ${lostCount} worse.`,
    ...changed("better in a", won),
    ...changed("worse in a", lost),
  ];
}

function comparisonCells({ slice, rows, a, b, difference, interval, pValue }: PairedComparison): (string | number)[] {
  return [
    slice ?? "all",
    rows,
    a.toFixed(1),
    b.toFixed(1),
    `${difference > 0 ? "+" : ""}${difference.toFixed(1)}`,
    `${interval.low.toFixed(1)} to ${interval.high.toFixed(1)}`,
    pValue < 0.001 ? "<0.001" : pValue.toFixed(3),
  ];
}

function changed(title: string, rows: readonly ChangedRow[]): string[] {
  if (rows.length === 0) return [];
  return [
    "",
    `${title}:`,
    ...rows
      .slice(0, shownRows)
      .flatMap(({ fileName, rowId, prompt, expected, answerA, answerB, scoreA, scoreB }) => [
        `  ${fileName ?? rowId}: ${prompt.replaceAll("\n", " ")}`,
        `      right: ${expected}`,
        `      a:     ${answerA}   (${scoreA.toFixed(1)})`,
        `      b:     ${answerB}   (${scoreB.toFixed(1)})`,
      ]),
  ];
}
