import { writeFile } from "node:fs/promises";
import { formatBytes, formatDuration } from "@drydock/cli";
import { escapeHtml } from "@drydock/data";
import { heldOutArtwork, trainingArtwork } from "../artwork/artwork-sets.ts";
import { domainConcepts, nameOf } from "../artwork/concepts.ts";
import { boxesMetric, namesMetric, systemPrompt } from "../recipe.ts";
import { scoreRows, type DemoSummary, type ModelSummary } from "../summary.ts";
import { drawCurves, smooth, type Curve } from "./curves.ts";
import { drawSample, type ShownSample } from "./pictures.ts";

export interface ReportInput {
  readonly summary: DemoSummary;
  readonly losses: Readonly<Record<"lora" | "full", readonly (readonly [step: number, loss: number])[]>>;
  readonly plan: readonly string[];
  readonly boxes: readonly ShownSample[];
  readonly names: readonly ShownSample[];
  /** A drawing made by `drydock predict --draw`, as a data URL, and its command. */
  readonly prediction: { readonly command: string; readonly text: string; readonly drawing: string };
}

const colours = { lora: "#2563eb", full: "#d97706" } as const;

/** Writes the report as one HTML file that needs nothing else. */
export async function writeReport(path: string, input: ReportInput): Promise<void> {
  await writeFile(path, render(input));
}

function render(input: ReportInput): string {
  const { summary, losses, plan } = input;
  const curves = (["lora", "full"] as const).map((mode): Curve => ({
    name: mode === "lora" ? "LoRA" : "full",
    colour: colours[mode],
    points: smooth(losses[mode], 10),
  }));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Drydock demo</title><style>${style}</style></head><body>
<h1>Drydock demo: a tiny model learns its food</h1>
<p class="lead">The base model <code>drydock-tiny-vl</code> (1.5 million parameters, trained by Drydock on other things) was fine-tuned twice, side by side on this computer: only LoRA adapters, and all weights. It took ${formatDuration(summary.totalSeconds)} in all, on ${summary.createdAt.slice(0, 10)}.</p>
<h2>Before and after</h2>
${scoreTable(summary)}
<p>All scores are per cent, on pictures that no training saw. <code>${namesMetric}</code>, the headline: the exact name of the food at a place. <code>${boxesMetric}</code>: boxes under the right name that overlap the right one by half or more, and no others.</p>
<h2>What it took</h2>
${costTable(summary)}
<h2>How the held-out set was made</h2>
${honesty(summary)}
<h2>Loss</h2>
${drawCurves(curves, "loss")}
<p>Mean over the answer tokens of each batch, smoothed over ten steps.</p>
<h2>What is it?</h2>
<p>Validation pictures, the first ones, not chosen.</p>
${input.names.map(drawSample).join("")}
<h2>Where is it?</h2>
<p>Dashed green: the right box. Red: the model's.</p>
${input.boxes.map(drawSample).join("")}
<h2>One more, from the command line</h2>
<pre>${escapeHtml(input.prediction.command)}\n${escapeHtml(input.prediction.text)}</pre>
<img src="${input.prediction.drawing}" alt="picture with the predicted box" width="320">
<h2>The plan that was shown before</h2>
<pre>${escapeHtml(plan.join("\n"))}</pre>
</body></html>
`;
}

function scoreTable(summary: DemoSummary): string {
  const metrics = [
    namesMetric,
    boxesMetric,
    ...Object.keys(summary.lora.scores).filter((metric) => metric !== boxesMetric && metric !== namesMetric),
  ];
  const rows = scoreRows(summary, metrics).map(
    (row) => `<tr>${row.map((cell, index) => (index === 0 ? `<th>${cell}</th>` : `<td>${cell}</td>`)).join("")}</tr>`,
  );
  return `<table><tr><th>metric</th><th>base</th><th>LoRA</th><th>full</th></tr>${rows.join("")}</table>`;
}

function costTable({ lora, full }: DemoSummary): string {
  const row = (title: string, of: (model: ModelSummary) => string): string =>
    `<tr><th>${title}</th><td>${of(lora)}</td><td>${of(full)}</td></tr>`;
  return `<table><tr><th></th><th>LoRA</th><th>full</th></tr>${row("time", ({ seconds }) => formatDuration(seconds))}${row("tokens a second", ({ tokensPerSecond }) => String(Math.round(tokensPerSecond ?? 0)))}${row("peak memory", ({ peakMemoryBytes }) => formatBytes(peakMemoryBytes ?? 0))}</table>`;
}

function honesty({ dataset }: DemoSummary): string {
  const artists = trainingArtwork.map(({ title, license }) => `${title} (${license})`).join(", ");
  return `<p>The data are ${dataset.trainingRows} training rows and ${dataset.validationRows} validation rows about small scenes of 64×64 pixels with one to three pictograms of food. There are ${domainConcepts.length} kinds: ${domainConcepts.map(nameOf).join(", ")}.</p>
<ul><li>Training pictures are drawn by ${artists}.</li>
<li>Validation pictures are drawn by ${heldOutArtwork.title} (${heldOutArtwork.license}) only. No training, neither this one nor that of the base, ever saw a drawing of that set.</li>
<li>The kinds of food are the same in both: this measures recognising known things in an unknown hand, not unknown things. Places, sizes, grounds and tilts are random in both, from the same generator with other seeds.</li>
<li>The base had seen no picture of food at all and knows the food names as words only, so that its names cannot be right but by luck; it often draws a good box, but under a wrong name, and a box counts under its right name only.</li>
<li>The number of steps, the learning rates and which of the two questions is the headline were chosen while building the demo, by looking at validation scores of this set; the scores are therefore a little kinder than those of a set used once.</li></ul>
<p>System prompt: <q>${escapeHtml(systemPrompt)}</q></p>`;
}

const style = `body{font:16px/1.55 system-ui,sans-serif;max-width:860px;margin:2.5rem auto;padding:0 1rem;color:#1d2330}h1{font-size:1.9rem;margin-bottom:.3rem}h2{margin-top:2.2rem;font-size:1.25rem}.lead{font-size:1.08rem;color:#4a5263}table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.4rem .9rem;border-bottom:1px solid #e3e6ea;text-align:right}th:first-child{text-align:left}tr:first-child th{color:#4a5263;font-weight:600}code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f5f6f8;padding:1rem;overflow:auto;border-radius:8px}.sample{border-top:1px solid #e3e6ea;padding:.4rem 0}.sample p{margin:.3rem 0;font-weight:600}.sample div{display:flex;gap:1rem;flex-wrap:wrap}figure{margin:0;width:200px}figcaption{font-size:.85rem;overflow-wrap:anywhere}svg{max-width:100%}`;
