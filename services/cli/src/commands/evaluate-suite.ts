import type { EvaluationSuite, SuiteCell } from "@drydock/spec";
import type { Command } from "commander";
import type { EvaluationClient } from "../client/evaluation-client.ts";
import { fields, table } from "../output/table.ts";
import { contextOf } from "./context.ts";
import { everyPage } from "./pages.ts";
import { pause } from "./watch-runs.ts";

const pollMs = 1_000;

/** `drydock evaluate suite|suites`: several models on several data sets. */
export function addSuiteCommands(evaluate: Command): void {
  evaluate
    .command("suite")
    .argument("<suite>", "id of the suite")
    .description("a suite: the ranking, and every model on every data set")
    .action(async function (this: Command, id: string) {
      const { evaluation, output } = contextOf(this);
      const suite = await evaluation().getSuite(id);
      output.answer(suite, () => describeSuite(suite));
    });

  evaluate
    .command("cancel")
    .argument("<id>", "id of an evaluation or of a suite")
    .description("end it: its workers stop, and what is not scored yet never is")
    .action(async function (this: Command, id: string) {
      const { evaluation, output } = contextOf(this);
      const cancelled = await evaluation().cancel(id);
      output.answer(cancelled, () => [`${cancelled.id} (${cancelled.state}): ${cancelled.message}`]);
    });

  evaluate
    .command("suites")
    .description("suites, newest first")
    .action(async function (this: Command) {
      const { evaluation, output } = contextOf(this);
      const items = await everyPage((query) => evaluation().listSuites(query));
      output.answer(items, () =>
        table(
          ["suite", "name", "state", "models", "data", "best"],
          items.map(({ id, name, state, spec, ranking }) => [
            id,
            name,
            state,
            spec.models.length,
            spec.datasets.join(", "),
            ranking[0] === undefined ? null : `${ranking[0].model} ${ranking[0].score.toFixed(1)}`,
          ]),
        ),
      );
    });
}

/** Waits until every evaluation of a suite is over, or Ctrl-C. */
export async function waitForSuite(
  client: EvaluationClient,
  suite: EvaluationSuite,
  signal: AbortSignal,
  status: (text: string) => void,
): Promise<EvaluationSuite> {
  let current = suite;
  while (isOpenSuite(current) && !signal.aborted) {
    status(`suite ${current.id}: ${current.message} …`);
    await pause(pollMs, signal);
    if (!signal.aborted) current = await client.getSuite(current.id);
  }
  return current;
}

export function isOpenSuite({ state }: EvaluationSuite): boolean {
  return state === "queued" || state === "running";
}

export function describeSuite(suite: EvaluationSuite): string[] {
  const { id, name, state, message, spec, ranking, headline, cells } = suite;
  return [
    ...fields({ suite: id, name, state: `${state}: ${message}`, task: spec.task }),
    "",
    ...table(
      ["model", "data", "evaluation", "state", headline, "95 %"],
      cells.map((cell) => [
        cell.model,
        cell.dataset,
        cell.evaluationId,
        cell.state === "failed" ? `failed: ${cell.message}` : cell.state,
        cell.scores?.[headline]?.toFixed(1) ?? null,
        intervalText(cell, headline),
      ]),
    ),
    ...(ranking.length < 2 ? [] : ["", ...ranking.map((own) => `${own.rank}. ${own.model}  ${own.score.toFixed(1)}`)]),
  ];
}

function intervalText({ intervals }: SuiteCell, metric: string): string | null {
  const interval = intervals?.[metric];
  return interval === undefined ? null : `${interval.low.toFixed(1)}–${interval.high.toFixed(1)}`;
}
