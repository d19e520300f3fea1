/*
 * `make demo`: from nothing to two fine-tuned models, through the REST API and the command line alone.
 *
 *   node demo/run-demo.ts [--stay]      --stay leaves the server up until Ctrl-C
 *
 * Everything is under .drydock/demo: report.html, summary.json, the data, the server's state.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import {
  createOutput,
  DrydockClient,
  formatBytes,
  formatDuration,
  HttpClient,
  reportError,
  table,
  watchRuns,
} from "@drydock/cli";
import { UnavailableError } from "@drydock/kit";
import { explainPlan, type Run } from "@drydock/spec";
import { heldOutArtwork, trainingArtwork } from "./artwork/artwork-sets.ts";
import { evaluate, importDataset, measuresOf, type Evaluated } from "./journey.ts";
import { makePantry, pantryGroundingPrompt, type Pantry } from "./pantry/make-pantry.ts";
import { predictWithDrawing } from "./prediction.ts";
import { boxesDataset, boxesMetric, modes, namesDataset, namesMetric, runSpecOf, type DemoMode } from "./recipe.ts";
import { collectSamples } from "./report/collect-samples.ts";
import { writeReport } from "./report/write-report.ts";
import { startServer, type DemoServer } from "./server.ts";
import { scoreRows, type DemoSummary, type ModelSummary } from "./summary.ts";

const repository = resolve(import.meta.dirname, "..");
const directory = join(repository, ".drydock", "demo");
const output = createOutput(false);
const startedMs = performance.now();

const { values: options } = parseArgs({ options: { stay: { type: "boolean", default: false } } });
const interrupted = new AbortController();
process.on("SIGINT", () => interrupted.abort());
process.on("SIGTERM", () => interrupted.abort());

try {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  heading("Starting the server");
  const server = await startServer(join(directory, "state"), (line) => output.note(`  ${line}`));
  try {
    output.note(`  ${server.url}`);
    await runDemo(server);
    if (options.stay && !interrupted.signal.aborted) {
      output.note(`\nThe server stays up at ${server.url} (API reference: ${server.url}/docs). Ctrl-C closes it.`);
      await new Promise((done) => interrupted.signal.addEventListener("abort", done, { once: true }));
    }
  } finally {
    await server.close();
  }
} catch (error) {
  process.exitCode = reportError(error, false, (text) => process.stderr.write(text));
}

/** The story, start to end. */
async function runDemo(server: DemoServer): Promise<void> {
  const client = new DrydockClient(new HttpClient(server));
  const { pantry, version } = await prepareData(client);

  heading("Planning");
  const plan = explainPlan(await client.plan(runSpecOf("lora", version)));
  for (const line of plan) output.note(`  ${line}`);

  heading("Scoring the base model");
  const base = await evaluate(client, "drydock-tiny-vl", interrupted.signal);
  tellScores(base);

  heading("Fine-tuning: LoRA and all weights, side by side");
  const runs = await Promise.all(modes.map((mode) => client.submitRun(runSpecOf(mode, version))));
  const ids = runs.map(({ id }) => id);
  const exitCode = await watchRuns(client, ids, output, interrupted.signal);
  if (exitCode !== 0)
    throw new UnavailableError(
      "run_not_finished",
      `a run did not succeed: drydock run show ${ids[0]} --state ${relative(process.cwd(), join(directory, "state"))} says why`,
    );
  const finished = await Promise.all(ids.map((id) => client.getRun(id)));

  heading("Scoring both models");
  const trained = await Promise.all(finished.map((run) => evaluate(client, run.model ?? run.name, interrupted.signal)));
  for (const evaluated of trained) tellScores(evaluated);

  const summary = await summarise(client, pantry, base, finished, trained);
  await writeFile(join(directory, "summary.json"), `${JSON.stringify(summary, null, 2)}\n`);
  const answered = { base, lora: trained[0]!, full: trained[1]! };
  const losses = Object.fromEntries(
    await Promise.all(
      modes.map(async (mode, index) => [mode, (await measuresOf(client, ids[index]!)).losses] as const),
    ),
  );
  await writeReport(join(directory, "report.html"), {
    summary,
    plan,
    losses: losses as Record<DemoMode, (readonly [number, number])[]>,
    boxes: await collectSamples(client, answered, "boxes", 6),
    names: await collectSamples(client, answered, "names", 6),
    prediction: await predictWithDrawing(server, finished[0]!.model ?? finished[0]!.name, pantry, directory),
  });
  tellEnd(summary);
}

async function prepareData(client: DrydockClient): Promise<{ pantry: Pantry; version: number }> {
  heading("Drawing the data");
  const pantry = await makePantry(join(directory, "data"));
  output.note(
    `  ${pantry.trainingRows} training rows in the hands of ${trainingArtwork.map(({ title }) => title).join(", ")}`,
  );
  output.note(`  ${pantry.validationRows} validation rows in the hand of ${heldOutArtwork.title}`);
  const options = { format: "vi-jsonl", groundingPrompt: pantryGroundingPrompt } as const;
  const names = await importDataset(client, namesDataset, pantry.namesDirectory, options, interrupted.signal);
  const boxes = await importDataset(client, boxesDataset, pantry.boxesDirectory, options, interrupted.signal);
  for (const version of [names, boxes])
    output.note(
      `  ${version.dataset}@${version.version}: ${version.statistics?.trainRows ?? 0} train, ${version.statistics?.validationRows ?? 0} validation rows; ${version.report?.errors ?? 0} errors, ${version.report?.warnings ?? 0} warnings`,
    );
  return { pantry, version: names.version };
}

async function summarise(
  client: DrydockClient,
  pantry: Pantry,
  base: Evaluated,
  runs: readonly Run[],
  trained: readonly Evaluated[],
): Promise<DemoSummary> {
  const [lora, full] = await Promise.all(
    runs.map(async (run, index): Promise<ModelSummary> => {
      const { seconds, tokensPerSecond, peakMemoryBytes } = await measuresOf(client, run.id);
      return { scores: trained[index]!.scores, seconds, tokensPerSecond, peakMemoryBytes };
    }),
  );
  return {
    base: { scores: base.scores, seconds: base.seconds, tokensPerSecond: null, peakMemoryBytes: null },
    lora: lora!,
    full: full!,
    dataset: {
      trainingRows: pantry.trainingRows,
      validationRows: pantry.validationRows,
      trainingArtwork: trainingArtwork.map(({ title }) => title),
      heldOutArtwork: heldOutArtwork.title,
    },
    totalSeconds: (performance.now() - startedMs) / 1000,
    createdAt: new Date().toISOString(),
  };
}

function tellScores({ model, scores }: Evaluated): void {
  output.note(
    `  ${model}: ${namesMetric} ${scores[namesMetric]?.toFixed(1)}, ${boxesMetric} ${scores[boxesMetric]?.toFixed(1)}`,
  );
}

function tellEnd(summary: DemoSummary): void {
  heading("Before and after, on pictures of an artist that no training saw (per cent)");
  for (const line of table(["metric", "base", "lora", "full"], scoreRows(summary, [namesMetric, boxesMetric])))
    output.note(`  ${line}`);
  for (const mode of modes) {
    const { seconds, tokensPerSecond, peakMemoryBytes } = summary[mode];
    output.note(
      `  ${mode}: trained in ${formatDuration(seconds)}, ${Math.round(tokensPerSecond ?? 0)} tokens/s, at most ${formatBytes(peakMemoryBytes ?? 0)}`,
    );
  }
  output.note(
    `\nReport:  ${relative(process.cwd(), join(directory, "report.html"))}\nSummary: ${relative(process.cwd(), join(directory, "summary.json"))}\nAll in ${formatDuration(summary.totalSeconds)}. The server with its models: npx drydock up --state ${relative(process.cwd(), join(directory, "state"))}`,
  );
}

function heading(text: string): void {
  output.note(`\n${text}`);
}
