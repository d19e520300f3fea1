import { readFile } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import { EvaluationSpec, Task, type Evaluation, type SampleResult } from "@drydock/spec";
import type { Command } from "commander";
import type { z } from "zod";
import type { DrydockClient } from "../client/drydock-client.ts";
import { cliExitCodes } from "../exit-codes.ts";
import { formatDuration, formatScores } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf, oneOf, wholeNumber } from "./context.ts";
import { everyPage } from "./pages.ts";
import { pause } from "./watch-runs.ts";

interface EvaluateFlags {
  readonly model: string;
  readonly dataset: string;
  readonly task: Task;
  readonly systemPrompt?: string;
  readonly systemPromptFile?: string;
  readonly metrics?: string;
  readonly maxSamples?: number;
  readonly wait: boolean;
}

const pollMs = 700;

/** `drydock evaluate …`: score a model on the validation split of a data set. */
export function addEvaluateCommands(program: Command): void {
  const evaluate = program.command("evaluate").description("score a model on the validation split of a data set");
  evaluate
    .command("create")
    .requiredOption("--model <model>", "catalogue name, name@version, or a model folder as file:… or a path")
    .requiredOption("--dataset <reference>", "name or name@version")
    .requiredOption("--task <task>", `one of ${Task.options.join(", ")}`, oneOf("--task", Task.options))
    .option("--system-prompt <text>", "instead of the task's default; empty for none")
    .option("--system-prompt-file <file>", "the same, from a file")
    .option("--metrics <names>", "comma-separated; the first is the headline")
    .option("--max-samples <number>", "at most so many rows", wholeNumber("--max-samples", 1))
    .option("--no-wait", "do not wait for the scores")
    .description("start an evaluation")
    .action(async function (this: Command, flags: EvaluateFlags) {
      const { client, output, signal } = contextOf(this);
      const created = await client().createEvaluation(await specOf(flags));
      const evaluation = flags.wait
        ? await waitForEvaluation(client(), created, signal, (text) => output.status(text, false))
        : created;
      output.answer(evaluation, () => describeEvaluation(evaluation));
      if (evaluation.state === "failed") process.exitCode = cliExitCodes.unsuccessful;
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
}

async function specOf(flags: EvaluateFlags): Promise<z.input<typeof EvaluationSpec>> {
  const isPath = /^(?:[a-z0-9]+:|[./~])/.test(flags.model);
  const systemPrompt =
    flags.systemPromptFile === undefined ? flags.systemPrompt : await readText(flags.systemPromptFile);
  const spec = {
    model: isPath ? { uri: flags.model } : flags.model,
    dataset: flags.dataset,
    task: flags.task,
    ...(systemPrompt !== undefined && { systemPrompt }),
    ...(flags.metrics !== undefined && { metrics: flags.metrics.split(",").map((metric) => metric.trim()) }),
    ...(flags.maxSamples !== undefined && { maxSamples: flags.maxSamples }),
  };
  const parsed = EvaluationSpec.safeParse(spec);
  if (parsed.success) return spec;
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
  });
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
