import { resolve } from "node:path";
import { defaultBlockSize, parseFormat } from "@drydock/engine";
import { exitCodes } from "@drydock/kit";
import { translateDiskError } from "../disk-error.ts";
import { findModel } from "../engine/find-model.ts";
import { chooseImageSettings, choosePrompt } from "../publish/model-card.ts";
import { quantizeModel } from "../quantization/quantize-model.ts";
import { parseArguments } from "./arguments.ts";
import { taskOf } from "./task-of.ts";

const usage =
  "quantize DIR --to nf4|fp4|int4|int8 --out DIR [--block-size N] [--double-quant] [--percentile P] [--calibrate DATA] [--calibration-rows N] [--data DATA] [--task vqa|chat|phrase-grounding] [--metrics A,B] [--system-prompt TEXT] [--max-samples N] [--max-new-tokens N]";
const textOptions = [
  "to",
  "out",
  "block-size",
  "percentile",
  "calibrate",
  "calibration-rows",
  "data",
  "task",
  "metrics",
  "system-prompt",
  "max-samples",
  "max-new-tokens",
];

/**
 * `quantize`: a copy of a model whose decoder holds its weights in few bits, and what that did to it: per layer, and on rows of
 * the user's own to perplexity and scores. The report is `quantization.json` in the folder, and goes to stdout on one line.
 */
export async function quantizeCommand(values: readonly string[]): Promise<number> {
  const options = Object.fromEntries(textOptions.map((name) => [name, { type: "string" as const }]));
  const given = parseArguments(usage, values, { ...options, "double-quant": { type: "boolean" } }, 1);
  const format = parseFormat(given.required("to"));
  const { directory, card } = await findModel(resolve(given.positionals[0] ?? ""), undefined);
  const prompt = choosePrompt(card, given.text("system-prompt"));
  for (const warning of prompt.warnings) process.stderr.write(`warning: ${warning}\n`);
  const out = resolve(given.required("out"));
  const atLeastOne = { minimum: 1, isWhole: true };
  const percentile = given.number("percentile", { minimum: 50, maximum: 100 });
  try {
    const report = await quantizeModel({
      directory,
      out,
      rounding: {
        format,
        blockSize: given.number("block-size") ?? defaultBlockSize,
        doubleQuantization: given.flag("double-quant"),
        ...(percentile === undefined ? {} : { percentile }),
      },
      calibrationData: given.path("calibrate"),
      calibrationRows: given.number("calibration-rows", atLeastOne) ?? 32,
      data: given.path("data"),
      maxSamples: given.number("max-samples", atLeastOne),
      task: taskOf(given.text("task") ?? card?.task ?? "vqa", usage),
      metrics: given.text("metrics")?.split(","),
      systemPrompt: prompt.systemPrompt,
      image: chooseImageSettings(card, {}).image,
      maxNewTokens: given.number("max-new-tokens", atLeastOne) ?? 128,
      say: (message) => process.stderr.write(`${message}\n`),
    });
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return exitCodes.done;
  } catch (error) {
    throw translateDiskError(out, error);
  }
}
