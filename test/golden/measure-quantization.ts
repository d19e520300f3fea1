/**
 * Measures what quantization does to models/drydock-tiny-vl on the demo's data, before and after it was trained on it, and that
 * adapters train on a quantized base as on the weights that it stands for; exports, and runs the exports with plain onnxruntime.
 * Writes docs/fidelity-quantization.md; ends with 1 when a bound is missed. `make quantization`.
 *
 * usage: measure-quantization.ts --python PYTHON
 */
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";
import { importVersion, readRecords } from "@drydock/data";
import { writeDequantizedFolder } from "@drydock/engine";
import { FolderStorage } from "@drydock/kit";
import { ImportOptions } from "@drydock/spec";
import { makePantry } from "../../demo/pantry/make-pantry.ts";
import { runSpecOf, systemPrompt } from "../../demo/recipe.ts";

const { values: given } = parseArgs({ options: { python: { type: "string", default: "python3" } } });
const repository = resolve(import.meta.dirname, "..", "..");
const tinyBase = join(repository, "models", "drydock-tiny-vl");
const worker = join(repository, "services", "worker", "src", "main.ts");
const curveSteps = 40;

/** Largest change of the perplexity, in percent. */
const bounds: Readonly<Record<string, number>> = { int8: 0.5, nf4: 3 };
const settings = [
  { name: "int8", options: ["--to=int8"] },
  { name: "nf4", options: ["--to=nf4"] },
  { name: "nf4, scales in 8 bits", options: ["--to=nf4", "--double-quant"] },
  { name: "nf4, by activations", options: ["--to=nf4"], isCalibrated: true },
  { name: "fp4", options: ["--to=fp4"] },
  { name: "int4", options: ["--to=int4"] },
  { name: "int4, by activations", options: ["--to=int4"], isCalibrated: true },
  { name: "int4, blocks of 32", options: ["--to=int4", "--block-size=32"] },
];

/** The parts of the worker's report that the tables show. */
interface Report {
  readonly weightBytes: { readonly before: number; readonly after: number };
  readonly layers: readonly {
    readonly relativeError: number;
    readonly bytesBefore: number;
    readonly bytesAfter: number;
  }[];
  readonly comparison: {
    readonly rows: number;
    readonly before: Measure;
    readonly after: Measure;
    readonly perplexityChange: number;
  };
}
interface Measure {
  readonly perplexity: number;
  readonly tokens: number;
  readonly scores: Readonly<Record<string, number>>;
}

async function runWorker(...values: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [worker, ...values], { maxBuffer: 2 ** 26 });
  return stdout;
}

/** The demo's questions by name, as messages: the training split as it is trained, in `train.jsonl`. */
async function writeMessages(folder: string, pantry: string): Promise<string> {
  const storage = new FolderStorage(folder);
  const options = ImportOptions.parse({ format: "vi-jsonl", groundingPrompt: 'Find "{phrases}".' });
  const { recordsKey } = await importVersion({ path: pantry, storage, options, datasetId: "pantry", version: 1 });
  const lines: string[] = [];
  for await (const { split, task, messages, images } of readRecords(storage, recordsKey)) {
    if (split !== "train" || task !== "vqa") continue;
    const [image] = images;
    const shown = { type: "image", image: join(folder, image?.key ?? "") };
    const turns = messages.map(({ role, content }) =>
      role === "user"
        ? { role, content: [shown, { type: "text", text: content.replaceAll("<image>", "") }] }
        : { role, content },
    );
    lines.push(JSON.stringify({ messages: turns }));
  }
  const path = join(folder, "train.jsonl");
  await writeFile(path, lines.map((line) => `${line}\n`).join(""));
  return path;
}

/** Trains as the demo does. @returns the losses by step */
async function train(directory: string, data: string, out: string, changes: object): Promise<number[]> {
  const { training, image } = { image: undefined, ...runSpecOf("full", 1) };
  const spec = {
    model: { uri: directory },
    mode: "full",
    task: "vqa",
    systemPrompt,
    order: "sequential",
    ...(image === undefined ? {} : { image }),
    evaluation: { before: false },
    ...changes,
    training: { ...training, ...("training" in changes ? (changes.training as object) : {}) },
  };
  await writeFile(`${out}.yaml`, JSON.stringify(spec));
  await runWorker("train", "--config", `${out}.yaml`, "--data", data, "--out", out);
  const lines = (await readFile(join(out, "steps.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

async function quantize(model: string, out: string, data: string, options: readonly string[]): Promise<Report> {
  const asked = [`--data=${data}`, "--task=vqa", `--system-prompt=${systemPrompt}`, "--max-new-tokens=32"];
  return JSON.parse(await runWorker("quantize", model, `--out=${out}`, ...asked, ...options)) as Report;
}

/** Of the last table. */
let quantizedWeights = 0;

async function tableOf(name: string, model: string, data: string): Promise<string> {
  const rows: string[] = [];
  let before: Measure | null = null;
  for (const { name: setting, options, isCalibrated } of settings) {
    const out = join(scratch, `${name}-${setting.replaceAll(/[^a-z0-9]+/g, "-")}`);
    const report = await quantize(model, out, data, isCalibrated ? [...options, `--calibrate=${data}`] : options);
    before = report.comparison.before;
    quantizedWeights =
      report.layers.reduce((sum, { bytesBefore }) => sum + bytesBefore, 0) / Float32Array.BYTES_PER_ELEMENT;
    const change = 100 * report.comparison.perplexityChange;
    console.log(`${name}, ${setting}: perplexity ${change.toFixed(3)} %`);
    const bound = bounds[setting];
    if (bound !== undefined && !(change <= bound)) process.exitCode = 1;
    rows.push(
      `| ${setting} | ${percent(worstOf(report))} | ${bitsOf(report)} | ${report.comparison.after.perplexity.toFixed(4)} | ${change > 0 ? "+" : ""}${change.toFixed(3)} % | ${score(report.comparison.after)} |`,
    );
  }
  return `| | largest error of a layer | bits a weight | perplexity | change | names right |
| --- | --- | --- | --- | --- | --- |
| float32 | | 32 | ${before?.perplexity.toFixed(4)} | | ${before ? score(before) : ""} |
${rows.join("\n")}`;
}

function worstOf({ layers }: Report): number {
  return Math.max(...layers.map(({ relativeError }) => relativeError));
}

function bitsOf({ layers }: Report): string {
  const [before, after] = [0, 1].map((which) =>
    layers.reduce((sum, { bytesBefore, bytesAfter }) => sum + (which === 0 ? bytesBefore : bytesAfter), 0),
  ) as [number, number];
  return ((32 * after) / before).toFixed(2);
}

function score({ scores }: Measure): string {
  return `${(scores["exact-match"] ?? Number.NaN).toFixed(1)} %`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(2)} %`;
}

/** An adapter on the base in NF4 against one on the float32 weights that its bytes stand for. */
async function curves(data: string): Promise<{ first: number; last: number; difference: number }> {
  const quantized = join(scratch, "base-nf4");
  const floats = join(scratch, "base-nf4-floats");
  await writeDequantizedFolder(quantized, floats);
  const lora = {
    mode: "lora",
    training: { ...runSpecOf("lora", 1).training, maxSteps: curveSteps, warmupRatio: 0.05 },
  };
  const losses = await train(quantized, data, join(scratch, "curve-nf4"), lora);
  const reference = await train(floats, data, join(scratch, "curve-floats"), lora);
  const difference = Math.max(...losses.map((loss, step) => Math.abs(loss - (reference[step] as number))));
  console.log(`adapter on nf4: ${losses[0]} → ${losses.at(-1)}, ${difference} from the reference`);
  if (!(difference <= 1e-3)) process.exitCode = 1;
  return { first: losses[0] as number, last: losses.at(-1) as number, difference };
}

/** Exports run by plain onnxruntime. @returns lines of a table */
async function exports(): Promise<string> {
  const check = join(import.meta.dirname, "quantization", "check_export.py");
  const messages = join(scratch, "messages.json");
  const picture = join(import.meta.dirname, "images", "wide.png");
  const content = [
    { type: "image", image: picture },
    { type: "text", text: "What is this?" },
  ];
  await writeFile(messages, JSON.stringify([{ role: "user", content }]));
  const rows: string[] = [];
  for (const [name, model] of [
    ["float32", tinyBase],
    ...["int8", "nf4", "int4"].map((format) => [format, join(scratch, `base-${format}`)] as const),
  ] as const) {
    const out = join(scratch, `onnx-${name}`);
    await runWorker("export", model, "--to=onnx", `--out=${out}`, `--messages=${messages}`);
    const reference = name === "float32" ? [model] : [];
    const { stdout } = await promisify(execFile)(given.python, [check, out, ...reference]);
    const worst = Math.max(
      ...stdout
        .trimEnd()
        .split("\n")
        .map((line) => Number(line.split(": ").at(-1))),
    );
    console.log(`export of ${name}: ${worst}`);
    rows.push(
      `| ${name} | ${worst.toExponential(1)} | ${name === "float32" ? "16 tokens, against `transformers`" : ""} |`,
    );
  }
  return rows.join("\n");
}

/** Folders that bitsandbytes reads, dequantized by it. @returns the largest difference from Drydock's weights */
async function readByBitsAndBytes(): Promise<number> {
  const differences: number[] = [];
  for (const name of ["base-nf4", "base-nf4-scales-in-8-bits", "base-fp4"]) {
    const floats = join(scratch, `${name}-dequantized`);
    await writeDequantizedFolder(join(scratch, name), floats);
    const check = join(import.meta.dirname, "quantization", "check_bitsandbytes.py");
    const { stdout } = await promisify(execFile)(given.python, [check, join(scratch, name), floats]);
    console.log(`${name} in transformers: ${stdout.trim()}`);
    differences.push(Number(stdout.trim().split(": ").at(-1)));
  }
  return Math.max(...differences);
}

/** The trained model's folder: the base's with other weights. */
async function trainedModel(data: string): Promise<string> {
  const run = join(scratch, "trained-run");
  await train(tinyBase, data, run, {});
  const directory = join(scratch, "trained");
  await cp(tinyBase, directory, { recursive: true });
  for (const name of await readdir(join(run, "model"))) await rename(join(run, "model", name), join(directory, name));
  return directory;
}

const scratch = await mkdtemp(join(tmpdir(), "drydock-quantization-"));
try {
  const pantry = (await makePantry(join(scratch, "pantry"))).namesDirectory;
  const data = await writeMessages(join(scratch, "messages"), pantry);
  const base = await tableOf("base", tinyBase, pantry);
  const curve = await curves(data);
  const exported = await exports();
  const otherSide = await readByBitsAndBytes();
  const trained = await tableOf("trained", await trainedModel(data), pantry);
  await writeFile(
    join(repository, "docs", "fidelity-quantization.md"),
    `# What quantization costs

Written by \`make quantization\`. The decoder's linear layers of \`drydock-tiny-vl\` (${quantizedWeights.toLocaleString("en")} weights) in 8 and 4 bits, blocks of 64 unless said, on the 120 validation questions of the demo's data: perplexity of the right names given question and picture, and names that a greedy answer gets right. "By activations": scales of inputs from 32 training rows. Bounds: int8 at most +${bounds["int8"]} %, nf4 at most +${bounds["nf4"]} %.

## Trained on the data (all weights, as in the demo)

${trained}

## As it ships

It has never seen what these pictures show, so its perplexity is large; the bounds hold for it all the same.

${base}

## Adapters on a base in few bits

An adapter of rank 16 on the base in nf4, against one on the float32 weights that its bytes stand for: over ${curveSteps} steps the loss goes from ${curve.first.toFixed(4)} to ${curve.last.toFixed(4)}, and differs by at most ${curve.difference.toExponential(1)} (bound 1e-3).

## In bitsandbytes

The folders in nf4, nf4 with scales in 8 bits and fp4, loaded by \`transformers\`: bitsandbytes dequantizes their layers to what Drydock does, with a largest difference of ${otherSide.toExponential(1)}. The other way round is a test: test/golden/quantization.

## Exports

\`drydock model export\`, run by \`onnxruntime\` in Python: largest difference of logits, keys and values from Drydock's own, of a prompt with a picture and of a further token.

| weights | difference | greedy |
| --- | --- | --- |
${exported}
`,
  );
} finally {
  await rm(scratch, { recursive: true, force: true });
}
