import { readFile } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import { EvaluationRequest, EvaluationSpec, Task, type Evaluation, type SampleResult } from "@drydock/spec";
import type { Command } from "commander";
import type { z } from "zod";
import type { DrydockClient } from "../client/drydock-client.ts";
import { cliExitCodes } from "../exit-codes.ts";
import { formatDuration, formatScores } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf, oneOf, wholeNumber, type CommandContext } from "./context.ts";
import { addCompareCommand } from "./evaluate-compare.ts";
import { addReportCommand } from "./evaluate-report.ts";
import { addSuiteCommands, describeSuite, isOpenSuite, waitForSuite } from "./evaluate-suite.ts";
import { everyPage } from "./pages.ts";
import { pause } from "./watch-runs.ts";

interface EvaluateFlags {
  readonly model: readonly string[];
  readonly dataset: readonly string[];
  readonly name?: string;
  readonly task: Task;
  readonly systemPrompt?: string;
  readonly systemPromptFile?: string;
  readonly metrics?: string;
  readonly maxSamples?: number;
  readonly shards?: number;
  readonly wait: boolean;
}

const pollMs = 700;

/** `drydock evaluate …`: score a model on the validation split of a data set. */
export function addEvaluateCommands(program: Command): void {
  const evaluate = program
    .command("evaluate")
    .alias("evaluation")
    .description("score models on the validation split of data sets, compare them, write reports");
  evaluate
    .command("create")
    .requiredOption(
      "--model <model>",
      "catalogue name, name@version, or a model folder as file:… or a path; several, one --model each, make a suite",
      collect,
    )
    .requiredOption("--dataset <reference>", "name or name@version; several make a suite", collect)
    .option("--name <name>", "of a suite")
    .requiredOption("--task <task>", `one of ${Task.options.join(", ")}`, oneOf("--task", Task.options))
    .option("--system-prompt <text>", "instead of the task's default; empty for none")
    .option("--system-prompt-file <file>", "the same, from a file")
    .option("--metrics <names>", "comma-separated; the first is the headline")
    .option("--max-samples <number>", "at most so many rows", wholeNumber("--max-samples", 1))
    .option("--shards <number>", "workers that share the rows of an evaluation", wholeNumber("--shards", 1))
    .option("--no-wait", "do not wait for the scores")
    .description("score a model on the validation split of a data set; several of either make a suite")
    .action(async function (this: Command, flags: EvaluateFlags) {
      const context = contextOf(this);
      const { client, output, signal } = context;
      const isSuite = flags.model.length > 1 || flags.dataset.length > 1 || flags.name !== undefined;
      if (isSuite) return await createSuite(context, await suiteRequestOf(flags), flags.wait);
      const created = await client().createEvaluation(await specOf(flags));
      const evaluation = flags.wait
        ? await waitForEvaluation(client(), created, signal, (text) => output.status(text, false))
        : created;
      output.answer(evaluation, () => describeEvaluation(evaluation));
      if (evaluation.state === "failed" || evaluation.state === "cancelled")
        process.exitCode = cliExitCodes.unsuccessful;
      if (flags.wait && isOpen(evaluation)) {
        output.note("Stopped waiting; the evaluation goes on.");
        process.exitCode = cliExitCodes.interrupted;
      }
    });

  evaluate
    .command("show")
    .argument("<evaluation>", "id of the evaluation")
    .option(
      "--samples <number>",
      "rows to show, at most 200: question, right answer, given answer",
      wholeNumber("--samples", 0),
      0,
    )
    .description("scores, and rows one by one")
    .action(async function (this: Command, id: string, { samples }: { samples: number }) {
      const { client, output } = contextOf(this);
      const evaluation = await client().getEvaluation(id);
      const results = samples === 0 ? [] : (await client().listSamples(id, { limit: Math.min(samples, 200) })).items;
      output.answer({ ...evaluation, results }, () => [
        ...describeEvaluation(evaluation),
        ...(results.length === 0 ? [] : ["", ...results.flatMap(describeSample)]),
      ]);
    });

  evaluate
    .command("list")
    .description("evaluations, newest first")
    .action(async function (this: Command) {
      const { client, output } = contextOf(this);
      const items = await everyPage((query) => client().listEvaluations(query));
      output.answer(items, () =>
        table(
          ["evaluation", "phase", "state", "model", "data", "scores"],
          items.map((item) => [
            item.id,
            item.phase,
            item.state,
            modelName(item),
            item.spec.dataset,
            formatScores(item.scores),
          ]),
        ),
      );
    });

  addSuiteCommands(evaluate);
  addCompareCommand(evaluate);
  addReportCommand(evaluate);
}

function collect(value: string, before: readonly string[] | undefined): string[] {
  return [...(before ?? []), value];
}

async function createSuite(
  { evaluation, output, signal }: CommandContext,
  request: z.input<typeof EvaluationRequest>,
  isToWait: boolean,
): Promise<void> {
  const created = await evaluation().createSuite(request);
  const suite = isToWait
    ? await waitForSuite(evaluation(), created, signal, (text) => output.status(text, false))
    : created;
  output.answer(suite, () => describeSuite(suite));
  if (suite.state === "failed" || suite.state === "cancelled") process.exitCode = cliExitCodes.unsuccessful;
  if (isToWait && isOpenSuite(suite)) {
    output.note("Stopped waiting; the evaluations go on.");
    process.exitCode = cliExitCodes.interrupted;
  }
}

async function suiteRequestOf(flags: EvaluateFlags): Promise<z.input<typeof EvaluationRequest>> {
  const { name, model, dataset } = flags;
  const request = {
    ...(name !== undefined && { name }),
    models: model.map(referenceOf),
    datasets: [...dataset],
    ...(await questionsOf(flags)),
  };
  return checked(EvaluationRequest, request);
}

async function specOf(flags: EvaluateFlags): Promise<z.input<typeof EvaluationSpec>> {
  const [model = "", dataset = ""] = [flags.model[0], flags.dataset[0]];
  return checked(EvaluationSpec, { model: referenceOf(model), dataset, ...(await questionsOf(flags)) });
}

function referenceOf(model: string): z.input<typeof EvaluationSpec>["model"] {
  return /^(?:[a-z0-9]+:|[./~])/.test(model) ? { uri: model } : model;
}

async function questionsOf(flags: EvaluateFlags): Promise<Omit<z.input<typeof EvaluationSpec>, "model" | "dataset">> {
  const systemPrompt =
    flags.systemPromptFile === undefined ? flags.systemPrompt : await readText(flags.systemPromptFile);
  return {
    task: flags.task,
    ...(systemPrompt !== undefined && { systemPrompt }),
    ...(flags.metrics !== undefined && { metrics: flags.metrics.split(",").map((metric) => metric.trim()) }),
    ...(flags.maxSamples !== undefined && { maxSamples: flags.maxSamples }),
    ...(flags.shards !== undefined && { shards: flags.shards }),
  };
}

function checked<Schema extends z.ZodType>(schema: Schema, value: z.input<Schema>): z.input<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return value;
  const details = parsed.error.issues.map((issue) => ({
    path: issue.path.join("."),
    code: issue.code,
    message: issue.message,
  }));
  throw new InvalidError("invalid_evaluation", "the evaluation cannot be asked for like this", { details });
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new InvalidError("unreadable_file", `${path} cannot be read: does it exist?`, { cause });
  }
}

/** Waits until an evaluation is over, or Ctrl-C. */
async function waitForEvaluation(
  client: DrydockClient,
  evaluation: Evaluation,
  signal: AbortSignal,
  status: (text: string) => void,
): Promise<Evaluation> {
  let current = evaluation;
  while (isOpen(current) && !signal.aborted) {
    status(`evaluation ${current.id}: ${current.state} …`);
    await pause(pollMs, signal);
    if (!signal.aborted) current = await client.getEvaluation(current.id);
  }
  return current;
}

function isOpen({ state }: Evaluation): boolean {
  return state === "queued" || state === "running";
}

function describeEvaluation(evaluation: Evaluation): string[] {
  return fields({
    evaluation: evaluation.id,
    state: `${evaluation.state}${evaluation.message === "" ? "" : `: ${evaluation.message}`}`,
    model: modelName(evaluation),
    data: evaluation.spec.dataset,
    samples: evaluation.samples,
    time: evaluation.seconds === null ? null : formatDuration(evaluation.seconds),
    scores: evaluation.scores === null ? null : formatScores(evaluation.scores),
    "95 %": intervalsText(evaluation),
  }).concat(describeSlices(evaluation));
}

function intervalsText({ details }: Evaluation): string | null {
  const intervals = Object.entries(details?.intervals ?? {});
  if (intervals.length === 0) return null;
  return intervals.map(([metric, { low, high }]) => `${metric} ${low.toFixed(1)}–${high.toFixed(1)}`).join(", ");
}

function describeSlices({ details }: Evaluation): string[] {
  if (details === null || details.slices.length === 0) return [];
  return [
    "",
    ...table(
      ["slice", "rows", "scores"],
      details.slices.map(({ name, count, scores }) => [name, count, formatScores(scores)]),
    ),
  ];
}

function modelName({ spec: { model } }: Evaluation): string {
  return typeof model === "string" ? model : model.uri;
}

function describeSample(sample: SampleResult): string[] {
  return [
    `${sample.fileName ?? sample.rowId}: ${sample.prompt.replaceAll("\n", " ")}`,
    `    right:  ${sample.expected}`,
    `    answer: ${sample.answer}   (${formatScores(sample.scores)})`,
  ];
}
