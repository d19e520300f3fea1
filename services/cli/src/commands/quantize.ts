import type { Command } from "commander";
import { z } from "zod";
import { runWorker } from "../engine/worker-process.ts";
import { formatBytes, formatScores } from "../output/quantities.ts";
import { fields, table } from "../output/table.ts";
import { contextOf } from "./context.ts";

const Measure = z.object({
  perplexity: z.number(),
  tokens: z.number(),
  scores: z.record(z.string(), z.number()),
  seconds: z.number(),
});

/** What the worker says at the end. */
const Report = z.looseObject({
  out: z.string(),
  settings: z.object({
    format: z.string(),
    blockSize: z.number(),
    doubleQuantization: z.boolean(),
    percentile: z.number(),
    calibrationRows: z.number(),
  }),
  weightBytes: z.object({ before: z.number(), after: z.number() }),
  layers: z.array(
    z.object({
      path: z.string(),
      relativeError: z.number(),
      outputError: z.number().nullable(),
      exponent: z.number().nullable(),
      bytesBefore: z.number(),
      bytesAfter: z.number(),
    }),
  ),
  comparison: z
    .object({
      data: z.string(),
      rows: z.number(),
      before: Measure,
      after: Measure,
      perplexityChange: z.number(),
      scoreChanges: z.record(z.string(), z.number()),
    })
    .nullable(),
});
type Report = z.infer<typeof Report>;

interface QuantizeFlags {
  readonly to: string;
  readonly out?: string;
  readonly doubleQuant?: boolean;
  readonly [option: string]: string | boolean | undefined;
}

/** Options handed to the worker as they are; it checks them. */
const passedOn = [
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
] as const;

/** `drydock model quantize`: a smaller copy of a model, and what that does to it. */
export function addQuantizeCommand(model: Command): void {
  model
    .command("quantize")
    .argument("<dir>", "model folder, Hugging Face layout")
    .description("write a copy with the decoder's weights in 8 or 4 bits, and say what that does to it")
    .requiredOption("--to <format>", "nf4, fp4, int4 or int8")
    .option("--out <dir>", "a new folder; default: the model's, with the format behind it")
    .option("--block-size <number>", "weights that share a scale, a power of two; default 64")
    .option("--double-quant", "nf4 and fp4: scales in 8 bits, as bitsandbytes nests them")
    .option("--percentile <number>", "choose scales for this share of a block's weights and clip the rest; default 100")
    .option("--calibrate <data>", "round finer what these rows make use of; they are compared on, too")
    .option("--calibration-rows <number>", "rows of the training split that are looked at; default 32")
    .option("--data <data>", "compare perplexity and scores on these rows: messages JSONL, or a data set's folder")
    .option("--task <task>", "vqa, chat or phrase-grounding; default: the model's, else vqa")
    .option("--metrics <names>", "scores, separated by commas; default: those of the task")
    .option("--system-prompt <text>", "instead of the one that the model was trained with")
    .option("--max-samples <number>", "rows that are compared at most")
    .option("--max-new-tokens <number>", "length of answers at most; default 128")
    .action(async function (this: Command, directory: string, flags: QuantizeFlags) {
      const { output } = contextOf(this);
      const out = flags.out ?? `${directory.replace(/\/+$/, "")}-${flags.to}`;
      const options = passedOn.flatMap((name) => {
        const value = flags[camel(name)];
        return typeof value === "string" ? [`--${name}=${value}`] : [];
      });
      const lines: string[] = [];
      const { exitCode } = await runWorker({
        arguments: [
          "quantize",
          directory,
          `--to=${flags.to}`,
          `--out=${out}`,
          ...(flags.doubleQuant === true ? ["--double-quant"] : []),
          ...options,
        ],
        onLine: (line) => lines.push(line),
      });
      process.exitCode = exitCode;
      if (exitCode !== 0) return;
      const report = Report.parse(JSON.parse(lines.at(-1) ?? ""));
      output.answer(report, () => describe(report));
    });
}

function describe({ out, settings, weightBytes, layers, comparison }: Report): string[] {
  const calibrated = settings.calibrationRows > 0;
  const worst = layers.toSorted((a, b) => b.relativeError - a.relativeError)[0];
  return [
    ...table(
      ["layer", "error", ...(calibrated ? ["output error", "exponent"] : []), "before", "after"],
      layers.map(({ path, relativeError, outputError, exponent, bytesBefore, bytesAfter }) => [
        path,
        percent(relativeError),
        ...(calibrated ? [outputError === null ? null : percent(outputError), exponent] : []),
        formatBytes(bytesBefore),
        formatBytes(bytesAfter),
      ]),
    ),
    "",
    ...fields({
      format: `${settings.format}, blocks of ${settings.blockSize}${settings.doubleQuantization ? ", scales in 8 bits" : ""}${settings.percentile < 100 ? `, clipped at ${settings.percentile} %` : ""}${calibrated ? `, by ${settings.calibrationRows} rows` : ""}`,
      weights: `${formatBytes(weightBytes.before)} → ${formatBytes(weightBytes.after)}`,
      "largest error": worst && `${percent(worst.relativeError)} in ${worst.path}`,
      ...(comparison && {
        rows: `${comparison.rows} of ${comparison.data}, ${comparison.before.tokens} tokens`,
        perplexity: `${comparison.before.perplexity.toFixed(4)} → ${comparison.after.perplexity.toFixed(4)} (${signed(100 * comparison.perplexityChange, 2)} %)`,
        "scores before": formatScores(comparison.before.scores),
        "scores after": formatScores(comparison.after.scores),
      }),
      folder: `${out}, the report in quantization.json`,
    }),
  ];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

function signed(value: number, digits: number): string {
  return `${value > 0 ? "+" : ""}${value.toFixed(digits)}`;
}

function camel(name: string): string {
  return name.replaceAll(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
