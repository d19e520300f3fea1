import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { QuantizationReport } from "../src/quantization/quantize-model.ts";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");

let root: string;
let model: string;
let data: string;
let quantized: string;
let report: QuantizationReport;

interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(...values: string[]): Promise<Ended> {
  const env = { ...process.env, DRYDOCK_LOG_LEVEL: "error" };
  return await new Promise((resolve) => {
    execFile(process.execPath, [main, ...values], { env }, (error, stdout, stderr) => {
      const code = error === null ? 0 : error.code;
      resolve({ exitCode: typeof code === "number" ? code : -1, stdout, stderr });
    });
  });
}

async function losses(modelDirectory: string, baseWeights: string, name: string): Promise<number[]> {
  const spec = {
    model: { uri: modelDirectory },
    order: "sequential",
    task: "vqa",
    image: { maxPixels: 1024 },
    training: { maxSteps: 30, globalBatchSize: 6, learningRate: 0.01, schedule: "constant", baseWeights },
  };
  const config = join(root, `${name}.yaml`);
  await writeFile(config, JSON.stringify(spec));
  const ended = await run("train", "--config", config, "--data", data, "--out", join(root, name));
  if (ended.exitCode !== 0) throw new Error(ended.stderr);
  const lines = (await readFile(join(root, name, "steps.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.map((line) => (JSON.parse(line) as { loss: number }).loss);
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-quantize-"));
  model = join(root, "model");
  quantized = join(root, "nf4");
  await createTinyModel(model);
  data = await createTinyData(join(root, "data"), 6);
  const ended = await run("quantize", model, "--to=nf4", `--out=${quantized}`, `--calibrate=${data}`);
  report = JSON.parse(ended.stdout) as QuantizationReport;
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

test("quantize reports each layer's error, the size, and perplexity and scores against the model as it was", async () => {
  expect(report.layers).toHaveLength(14);
  expect(report.settings).toMatchObject({ format: "nf4", blockSize: 64, calibrationRows: 6 });
  expect(report.weightBytes.after).toBeLessThan(report.weightBytes.before);
  for (const layer of report.layers) expect(layer.outputError).toBeLessThan(0.2);
  const { comparison } = report;
  expect(comparison?.rows).toBe(6);
  expect(comparison?.before.perplexity).toBeGreaterThan(1);
  expect(Math.abs(comparison?.perplexityChange ?? 1)).toBeLessThan(0.1);
  expect(Object.keys(comparison?.scoreChanges ?? {})).toEqual(Object.keys(comparison?.before.scores ?? {}));
  expect(JSON.parse(await readFile(join(quantized, "quantization.json"), "utf8"))).toEqual(report);
});

test("predict and evaluate take the folder for a model", async () => {
  const question = ["--image", join(root, "data", "1.png"), "--prompt", "Which colour?", "--max-new-tokens", "3"];
  expect(await run("predict", quantized, ...question)).toMatchObject({ exitCode: 0 });
  const evaluated = await run("evaluate", quantized, "--data", data, "--max-new-tokens", "3");
  expect(JSON.parse(evaluated.stdout)).toMatchObject({ samples: 6 });
});

test("train puts an adapter on a base that is rounded as it is read, or that a folder holds so", async () => {
  const asRead = await losses(model, "nf4", "as-read");
  expect(asRead.at(-1)).toBeLessThan((asRead[0] as number) - 0.3);
  const inEight = await losses(model, "int8", "in-eight").catch((error: unknown) => String(error));
  expect(inEight).toMatch(/block size 64 does not fit .*, whose rows have 32 elements: use at most 32/);
  const stored = await losses(quantized, "bf16", "stored");
  expect(stored.at(-1)).toBeLessThan((stored[0] as number) - 0.3);
  expect(await losses(quantized, "nf4", "stored-and-asked-for")).toEqual(stored);
});

test.each([
  [
    "an unknown format",
    (): string[] => [model, "--to=int3"],
    64,
    /^quantization "int3" is not known: use one of nf4, fp4, int4, int8$/m,
  ],
  [
    "a block size that is none",
    () => [model, "--to=nf4", "--block-size=48"],
    64,
    /^block size 48 does not fit: use a power of two/m,
  ],
  [
    "a block longer than a row",
    () => [model, "--to=int8"],
    64,
    /^block size 64 does not fit .*whose rows have 32 elements/m,
  ],
  [
    "nested scales of integers",
    () => [model, "--to=int8", "--block-size=16", "--double-quant"],
    64,
    /double quantization is for nf4 and fp4$/m,
  ],
  [
    "a percentile that is none",
    () => [model, "--to=nf4", "--percentile=0"],
    64,
    /^--percentile takes a number of at least 50 and at most 100/m,
  ],
  [
    "a folder that is quantized",
    () => [quantized, "--to=int8"],
    64,
    /is quantized already \(nf4\): to get int8, quantize the model that it was made from$/m,
  ],
  [
    "data that is not there",
    () => [model, "--to=nf4", `--data=${join(root, "none")}`],
    65,
    /^there is no file or folder .*none$/m,
  ],
  ["a model that is not there", () => [join(root, "none"), "--to=nf4"], 64, /^model folder .*none does not exist$/m],
] as const)("quantize refuses %s", async (_case, values, exitCode, message) => {
  const ended = await run("quantize", ...values(), `--out=${join(root, "refused")}`);
  expect(ended.stderr).toMatch(message);
  expect(ended.exitCode).toBe(exitCode);
});

test("export writes graphs of a quantized folder, with examples of a conversation", async () => {
  const messages = join(root, "data", "messages.json");
  const content = [
    { type: "image", image: "1.png" },
    { type: "text", text: "Which colour?" },
  ];
  await writeFile(messages, JSON.stringify([{ role: "user", content }]));
  const out = join(root, "onnx");
  const ended = await run("export", quantized, "--to=onnx", `--out=${out}`, `--messages=${messages}`);
  expect(ended.exitCode).toBe(0);
  const { graphs } = JSON.parse(ended.stdout) as { graphs: { name: string }[] };
  expect(graphs.map(({ name }) => name)).toEqual(["prefill", "prefill-images", "decode"]);
  expect(await readdir(out)).toContain("example-prefill-images.safetensors");
});

test("export refuses formats that it does not write", async () => {
  const ended = await run("export", model, "--to=gguf", `--out=${join(root, "gguf")}`);
  expect(ended).toMatchObject({ exitCode: 64 });
  expect(ended.stderr).toMatch(/^--to "gguf" is not known: models are exported to onnx$/m);
});
