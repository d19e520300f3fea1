/*
 * `make bench-memory`: the largest memory of a training process on the CPU (steps, then answers as of an evaluation) against
 * what the planner says of it. Each case is a fresh process.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { drydockCpuRecipe, estimateMemory, modelFactsFromConfig } from "@drydock/spec";
import { writeHollowModel } from "./hollow-model.ts";
import { configOf, trainCases, writeBatch, writeTrainCase, type TrainCase } from "./train-cases.ts";

interface MemoryCase {
  readonly bench: TrainCase;
  readonly mode: "full" | "lora";
  readonly recompute: boolean;
  /** Weights in bf16, all zero, in a file with holes. */
  readonly isHollow: boolean;
  readonly answers: boolean;
}

interface Measured {
  readonly openedBytes: number;
  readonly trainedBytes: number;
  readonly answeredBytes: number;
  readonly fileBytes: number;
}

/** 8,192 tokens with a picture of 4,096 patches; and a decoder and a tower of two milliards of weights in bf16. */
const longCase: TrainCase = {
  name: "8k tokens",
  text: { width: 128, layers: 2, vocabulary: 512 },
  vision: { width: 96, depth: 2, patch: 8 },
  pixels: 512,
  rows: 1,
  textTokens: 7168,
};
const largeCase: TrainCase = {
  name: "2B bf16",
  text: { width: 2048, layers: 36, vocabulary: 151_936 },
  vision: { width: 1024, depth: 24, patch: 16 },
  pixels: 64,
  rows: 1,
  textTokens: 32,
};

const run = promisify(execFile);
const { values: flags } = parseArgs({ options: { only: { type: "string" }, steps: { type: "string", default: "3" } } });

const ways = [
  { mode: "full", recompute: false },
  { mode: "full", recompute: true },
  { mode: "lora", recompute: false },
  { mode: "lora", recompute: true },
] as const;
const cases: MemoryCase[] = [
  ...trainCases.flatMap((bench) => ways.map((way) => ({ ...way, bench, isHollow: false, answers: true }))),
  { bench: longCase, mode: "lora", recompute: true, isHollow: false, answers: false },
  { bench: largeCase, mode: "lora", recompute: true, isHollow: true, answers: false },
];

function predictedBytes({ bench, mode, recompute, answers }: MemoryCase): number {
  const { architecture } = modelFactsFromConfig(bench.name, { config: configOf(bench), preprocessor: null });
  const patches = (bench.pixels / bench.vision.patch) ** 2;
  const estimate = estimateMemory({
    architecture,
    trainable:
      mode === "full"
        ? { decoder: "full", vision: "full", bridge: "full", embeddings: "full" }
        : { decoder: "adapter", vision: "frozen", bridge: "frozen", embeddings: "frozen" },
    lora: mode === "full" ? null : { rank: 16, targets: "all-linear" },
    baseWeights: "bf16",
    layout: {
      dataParallel: 1,
      pipelineStages: 1,
      tensorParallel: 1,
      sharding: "none",
      microBatchSize: bench.rows,
      accumulationSteps: 1,
      recomputeActivations: recompute,
    },
    sample: {
      tokens: patches / 4 + bench.textTokens,
      labels: Math.ceil(bench.textTokens / 2),
      patches,
      patchesPerSegment: patches,
    },
    recipe: answers ? drydockCpuRecipe : { ...drydockCpuRecipe, answers: false },
  });
  return estimate.totalBytes;
}

async function measure(each: MemoryCase, scratch: string): Promise<Measured & { readonly storedBytes: number | null }> {
  const { bench, mode, recompute, isHollow, answers } = each;
  const directory = join(scratch, bench.name);
  let files = { model: join(directory, "model"), batch: join(directory, "batch.safetensors") };
  let storedBytes: number | null = null;
  await mkdir(directory, { recursive: true });
  if (isHollow) {
    ({ fileBytes: storedBytes } = await writeHollowModel(configOf(bench), files.model, 2));
    await writeBatch(bench, files.batch);
  } else files = await writeTrainCase(bench, directory);
  const steps = isHollow ? "1" : flags.steps;
  const parameters = ["--model", files.model, "--batch", files.batch, "--mode", mode, "--steps", steps];
  if (recompute) parameters.push("--recompute");
  if (answers) parameters.push("--answers");
  // As the controller starts workers.
  const env = { ...process.env, MALLOC_ARENA_MAX: "2" };
  const { stdout } = await run(process.execPath, ["test/bench/memory-subject.ts", ...parameters], { env });
  await rm(directory, { recursive: true });
  return { ...(JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as Measured), storedBytes };
}

const table: Record<string, unknown>[] = [];
const scratch = await mkdtemp(join(tmpdir(), "drydock-bench-"));
try {
  for (const each of cases.filter(({ bench }) => flags.only === undefined || flags.only === bench.name)) {
    const measured = await measure(each, scratch);
    const predicted = predictedBytes(each);
    const difference = predicted / measured.answeredBytes - 1;
    table.push({
      model: each.bench.name,
      mode: each.mode,
      recomputes: each.recompute,
      "opened MB": Math.round(measured.openedBytes / 1e6),
      "trained MB": Math.round(measured.trainedBytes / 1e6),
      "peak MB": Math.round(measured.answeredBytes / 1e6),
      "predicted MB": Math.round(predicted / 1e6),
      "difference %": Math.round(100 * difference),
      "in the band": difference >= -0.1 && difference <= 0.3,
      "share of its file": measured.storedBytes && Number((measured.answeredBytes / measured.storedBytes).toFixed(2)),
    });
    console.log(JSON.stringify(table.at(-1)));
  }
  console.table(table);
  await mkdir(".drydock/bench", { recursive: true });
  await writeFile(".drydock/bench/memory.json", `${JSON.stringify(table, null, 2)}\n`);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
