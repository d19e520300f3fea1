import { boxColours, defaultMetrics, drawBoxes } from "@drydock/data";
import type { Evaluation, EvaluationDetails, SampleResult, Scores } from "@drydock/spec";
import { modelText } from "../evaluations/model-text.ts";
import { Html, html, page, scoreBar, scoreText } from "./html-page.ts";

/** A row as a report shows it. */
export interface ShownRow {
  readonly sample: SampleResult;
  /** Data URL; null for a row without a picture, or one that cannot be shown. */
  readonly picture: string | null;
}

export interface EvaluationReport {
  readonly evaluation: Evaluation;
  readonly rows: readonly ShownRow[];
  /** How the rows were chosen, as a sentence. */
  readonly choice: string;
  readonly headline: string;
}

/** An evaluation as one HTML file: scores with intervals, slices, and rows with their pictures. */
export function evaluationHtml({ evaluation, rows, choice, headline }: EvaluationReport): string {
  const { spec, details, samples, seconds, createdAt, id } = evaluation;
  const scores = inOrder(evaluation);
  const title = `${modelText(spec.model)} on ${spec.dataset}`;
  const isGrounding = spec.task === "phrase-grounding";
  const key = isGrounding
    ? html`<p>
        <span class="key" style="border-color:${boxColours.expected};border-top-style:dashed"></span>the right boxes
        &nbsp; <span class="key" style="border-color:${boxColours.answered}"></span>the model's
      </p>`
    : html``;
  return page(
    title,
    html`<h1>${title}</h1>
      <p class="lead">
        Evaluation ${id} of ${createdAt.slice(0, 10)}: task ${spec.task}, ${samples} rows of the validation
        split${seconds === null ? "" : `, answered in ${Math.round(seconds)} s`}.
      </p>
      <h2>Scores</h2>
      ${scoreTable(scores, details)} ${sliceTable(scores, details)}
      <h2>Rows</h2>
      <p>${choice}</p>
      ${key} ${rows.map((row) => drawRow(row, headline, isGrounding))}`,
  );
}

/** Scores as the evaluation named its metrics, the headline first: the database keeps them in an order of its own. */
function inOrder({ spec, scores }: Evaluation): Scores {
  const names = [...(spec.metrics ?? defaultMetrics[spec.task]), ...Object.keys(scores ?? {})];
  return Object.fromEntries(names.flatMap((name) => (scores?.[name] === undefined ? [] : [[name, scores[name]]])));
}

/** `cider-d` goes to 10, all others to 100. */
function scaleOf(metric: string): number {
  return metric === "cider-d" ? 10 : 100;
}

function scoreTable(scores: Scores, details: EvaluationDetails | null): Html {
  const rows = Object.entries(scores).map(
    ([metric, score]) =>
      html`<tr>
        <td>${metric}</td>
        <td>${scoreText(score, details?.intervals[metric])}</td>
        <td>${scoreBar(score, details?.intervals[metric], scaleOf(metric))}</td>
      </tr>`,
  );
  const note =
    details === null
      ? html`<p>It was made before confidence intervals were kept: evaluate the model again to have them.</p>`
      : html`<p><small>Small: 95 % confidence interval, percentile bootstrap over rows.</small></p>`;
  return html`<table>
      <thead>
        <tr>
          <th>metric</th>
          <th>score</th>
          <th></th>
        </tr>
      </thead>
      <tbody>
        ${rows}
      </tbody>
    </table>
    ${note}`;
}

function sliceTable(scores: Scores, details: EvaluationDetails | null): Html {
  if (details === null || details.slices.length === 0) return html``;
  const metrics = Object.keys(scores);
  const rows = details.slices.map(
    ({ name, count, scores: own, intervals }) =>
      html`<tr>
        <td>${name}</td>
        <td>${count}</td>
        ${metrics.map((metric) => html`<td>${scoreText(own[metric], intervals[metric])}</td>`)}
      </tr>`,
  );
  const more = details.slicesLeftOut > 0 ? html`<p>${details.slicesLeftOut} rarer slices are left out.</p>` : html``;
  return html`<h2>Slices</h2>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            <th>slice</th>
            <th>rows</th>
            ${metrics.map((metric) => html`<th>${metric}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${rows}
        </tbody>
      </table>
    </div>
    ${more}`;
}

function drawRow({ sample, picture }: ShownRow, headline: string, isGrounding: boolean): Html {
  const score = sample.scores[headline] ?? 0;
  const isRight = score >= scaleOf(headline) / 2;
  const tags = (sample.tags ?? []).length === 0 ? "" : ` (${(sample.tags ?? []).join(", ")})`;
  const unread = isGrounding && !sample.isParsable ? " (no boxes could be read from it)" : "";
  const scores = Object.entries(sample.scores).map(([metric, value]) => `${metric} ${value.toFixed(1)}`);
  return html`<section class="sample">
    ${figure(sample, picture, isGrounding)}
    <div>
      <dl>
        <dt>row</dt>
        <dd><span>${sample.fileName ?? sample.rowId}${tags}</span></dd>
        <dt>question</dt>
        <dd><span>${sample.prompt}</span></dd>
        <dt>right</dt>
        <dd><span>${sample.expected}</span></dd>
        <dt>answer</dt>
        <dd><span class="${isRight ? "right" : "wrong"}">${sample.answer}</span>${unread}</dd>
        <dt>scores</dt>
        <dd>${scores.join(", ")}</dd>
      </dl>
    </div>
  </section>`;
}

function figure(sample: SampleResult, picture: string | null, isGrounding: boolean): Html {
  const [width, height] = [sample.width ?? 100, sample.height ?? 100];
  if (picture === null && !isGrounding) return html``;
  const boxes = isGrounding
    ? drawBoxes(sample.answeredGroundings, {
        width,
        height,
        colour: boxColours.answered,
        dashes: "",
        labels: "below",
      }) +
      drawBoxes(sample.expectedGroundings, {
        width,
        height,
        colour: boxColours.expected,
        dashes: "6 4",
        labels: "above",
      })
    : "";
  const image =
    picture === null
      ? html`<text x="${width / 2}" y="${height / 2}" text-anchor="middle" font-size="${width / 18}"
          >the picture cannot be shown</text
        >`
      : html`<image href="${picture}" width="${width}" height="${height}" />`;
  // The boxes were escaped where they were drawn.
  return html`<figure><svg viewBox="0 0 ${width} ${height}">${image}${new Html(boxes)}</svg></figure>`;
}
