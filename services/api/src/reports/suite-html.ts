import type { EvaluationSuite, SuiteCell } from "@drydock/spec";
import { html, page, scoreText, type Html } from "./html-page.ts";

/** A suite as one HTML file: the ranking, and a table of models and data sets for each metric. */
export function suiteHtml(suite: EvaluationSuite): string {
  const { name, id, createdAt, message, headline, ranking, spec, cells } = suite;
  const metrics = [...new Set(cells.flatMap(({ scores }) => Object.keys(scores ?? {})))];
  const failed = cells.filter(({ state }) => state === "failed" || state === "cancelled");
  return page(
    `Evaluation suite ${name}`,
    html`<h1>Evaluation suite ${name}</h1>
      <p class="lead">${id} of ${createdAt.slice(0, 10)}: task ${spec.task}. ${message}.</p>
      ${rankingTable(suite)} ${metrics.map((metric) => matrix(suite, metric))}
      <p>
        <small
          >Small: 95 % confidence interval, percentile bootstrap over rows. Ranked by
          ${headline}${ranking.length === 0 ? "" : ", the mean over data sets"}; models whose intervals overlap may well
          be equally good: compare them row by row.</small
        >
      </p>
      ${
        failed.length === 0
          ? html``
          : html`<h2>What was not scored</h2>
              <ul>
                ${failed.map((cell) => html`<li>${cell.model} on ${cell.dataset}: ${cell.message}</li>`)}
              </ul>`
      }`,
  );
}

function rankingTable({ ranking, headline }: EvaluationSuite): Html {
  if (ranking.length === 0) return html`<p>No model has scores on every data set yet.</p>`;
  const rows = ranking.map(
    ({ rank, model, score }) =>
      html`<tr>
        <td>${rank}. ${model}</td>
        <td>${score.toFixed(1)}</td>
      </tr>`,
  );
  return html`<h2>Ranking</h2>
    <table>
      <thead>
        <tr>
          <th>model</th>
          <th>${headline}</th>
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>`;
}

function matrix({ cells }: EvaluationSuite, metric: string): Html {
  const datasets = [...new Set(cells.map(({ dataset }) => dataset))];
  const models = [...new Set(cells.map(({ model }) => model))];
  const rows = models.map(
    (model) =>
      html`<tr>
        <td>${model}</td>
        ${datasets.map((dataset) =>
          cellOf(
            cells.find((cell) => cell.model === model && cell.dataset === dataset),
            metric,
          ),
        )}
      </tr>`,
  );
  return html`<h2>${metric}</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>model</th>
            ${datasets.map((dataset) => html`<th>${dataset}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>`;
}

function cellOf(cell: SuiteCell | undefined, metric: string): Html {
  if (cell === undefined) return html`<td>–</td>`;
  if (cell.scores === null) return html`<td>${cell.state}</td>`;
  return html`<td>${scoreText(cell.scores[metric], cell.intervals?.[metric])}</td>`;
}
