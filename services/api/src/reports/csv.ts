import type { Evaluation, EvaluationSuite, SampleResult } from "@drydock/spec";
import { modelText } from "../evaluations/model-text.ts";

type Cell = string | number | boolean | null;

/** A table by RFC 4180: lines end with CRLF, cells are quoted where they must be. */
export function toCsv(rows: readonly (readonly Cell[])[]): string {
  return rows.map((row) => `${row.map(toCell).join(",")}\r\n`).join("");
}

function toCell(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell !== "string") return String(cell);
  // What models and data say must not run as a formula when the file is opened in a spreadsheet.
  const text = /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : cell;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** One line a row of the data set, with the score of each metric. */
export function evaluationCsv({ spec, scores }: Evaluation, samples: readonly SampleResult[]): string {
  const metrics = Object.keys(scores ?? {});
  const model = modelText(spec.model);
  return toCsv([
    [
      "model",
      "dataset",
      "rowId",
      "fileName",
      "tags",
      "width",
      "height",
      "prompt",
      "expected",
      "answer",
      "isParsable",
      ...metrics,
    ],
    ...samples.map((sample) => [
      model,
      spec.dataset,
      sample.rowId,
      sample.fileName,
      (sample.tags ?? []).join(" "),
      sample.width,
      sample.height,
      sample.prompt,
      sample.expected,
      sample.answer,
      sample.isParsable,
      ...metrics.map((metric) => sample.scores[metric] ?? null),
    ]),
  ]);
}

/** One line for each model, data set and metric. */
export function suiteCsv({ cells }: EvaluationSuite): string {
  return toCsv([
    ["model", "dataset", "evaluationId", "state", "samples", "metric", "score", "low", "high"],
    ...cells.flatMap(({ model, dataset, evaluationId, state, samples, scores, intervals }) =>
      Object.entries(scores ?? { "": null }).map(([metric, score]) => [
        model,
        dataset,
        evaluationId,
        state,
        samples,
        metric,
        score,
        intervals?.[metric]?.low ?? null,
        intervals?.[metric]?.high ?? null,
      ]),
    ),
  ]);
}
