import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { exitCodes } from "@drydock/kit";
import { translateDiskError } from "../disk-error.ts";
import { answerWith } from "../engine/answer-questions.ts";
import { findModel } from "../engine/find-model.ts";
import { openForAnswers } from "../engine/open-for-answers.ts";
import { scorerOf } from "../evaluation/score-answers.ts";
import { answeredAtOnce, evenly } from "../evaluation/validation-evaluator.ts";
import { chooseImageSettings, choosePrompt } from "../publish/model-card.ts";
import { localPathOf, readMessagesFile } from "../rows/read-messages.ts";
import { parseArguments } from "./arguments.ts";
import { taskOf } from "./task-of.ts";

const usage =
  "evaluate DIR --data FILE.jsonl [--task vqa|chat|phrase-grounding] [--adapter DIR] [--system-prompt TEXT] [--metrics A,B] [--max-samples N] [--max-new-tokens N] [--out FILE.jsonl]";

/** `evaluate`: scores a model on conversations without a control plane; the scores go to stdout as JSON, each sample to `--out`. */
export async function evaluateCommand(values: readonly string[]): Promise<number> {
  const names = ["data", "task", "adapter", "system-prompt", "metrics", "max-samples", "max-new-tokens", "out"];
  const given = parseArguments(
    usage,
    values,
    Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
    1,
  );
  const found = await findModel(resolve(given.positionals[0] ?? ""), given.path("adapter"));
  const task = taskOf(given.text("task") ?? found.card?.task ?? "vqa", usage);
  const { metrics, score } = scorerOf(task, given.text("metrics")?.split(","));
  const prompt = choosePrompt(found.card, given.text("system-prompt"));
  for (const warning of prompt.warnings) process.stderr.write(`warning: ${warning}\n`);
  const all = await readMessagesFile(resolve(given.required("data")), {
    task,
    scratchDirectory: join(tmpdir(), "drydock-pictures"),
  });
  const validation = all.filter(({ split }) => split === "validation");
  const records = evenly(validation.length > 0 ? validation : all, given.number("max-samples") ?? all.length);

  const { image } = chooseImageSettings(found.card, {});
  const { generator, encoder } = await openForAnswers({
    ...found,
    image,
    systemPrompt: prompt.systemPrompt,
    pathOf: localPathOf,
  });
  const startedMs = performance.now();
  try {
    const answers: string[] = [];
    for (let start = 0; start < records.length; start += answeredAtOnce) {
      const questions = records.slice(start, start + answeredAtOnce).map((record) => ({ record }));
      answers.push(
        ...(await answerWith(generator, encoder, questions, { maxNewTokens: given.number("max-new-tokens") ?? 128 })),
      );
    }
    const { scores, results, details } = score(records, answers, (record) => encoder.boxSpaceOf(record));
    await writeResults(given.path("out"), results);
    process.stdout.write(
      `${JSON.stringify({ task, metrics, scores, details: details(), samples: records.length, seconds: (performance.now() - startedMs) / 1000 })}\n`,
    );
    return exitCodes.done;
  } finally {
    await generator.close();
  }
}

async function writeResults(path: string | undefined, results: readonly object[]): Promise<void> {
  if (path === undefined) return;
  try {
    await writeFile(path, results.map((result) => `${JSON.stringify(result)}\n`).join(""));
  } catch (error) {
    throw translateDiskError(path, error);
  }
}
