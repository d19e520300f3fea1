/*
 * One case of the memory benchmark: opens a trainer, takes steps, then answers as an evaluation does. Prints one line of JSON
 * with the process's memory after each part.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { EngineTrainer } from "@drydock/engine";
import { readTrainBatch } from "./train-batch.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    batch: { type: "string" },
    mode: { type: "string" },
    steps: { type: "string" },
    recompute: { type: "boolean", default: false },
    answers: { type: "boolean", default: false },
  },
});

/** Figures of /proc/self/status in bytes; of `Vm…`, the largest since the process began. */
function memoryBytes(field: "VmHWM" | "RssAnon" | "RssFile"): number {
  const [, kilobytes] = new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync("/proc/self/status", "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}

const startBytes = memoryBytes("VmHWM");
const trainer = await EngineTrainer.open({
  directory: flags.model as string,
  mode: flags.mode as "lora" | "full",
  lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
  optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
  schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 1000 },
  seed: 1,
  threads: 2,
  recomputes: flags.recompute,
});
const openedBytes = memoryBytes("VmHWM");
const batch = await readTrainBatch(flags.batch as string);
const started = performance.now();
for (let step = 0; step < Number(flags.steps); step++) await trainer.step([batch]);
const secondsPerStep = (performance.now() - started) / 1000 / Number(flags.steps);
const trainedBytes = memoryBytes("VmHWM");
if (flags.answers) await (await trainer.generator()).answers(batch, { maxNewTokens: 4, stopTokenIds: [] });
console.log(
  JSON.stringify({
    startBytes,
    openedBytes,
    trainedBytes,
    answeredBytes: memoryBytes("VmHWM"),
    anonymousBytes: memoryBytes("RssAnon"),
    fileBytes: memoryBytes("RssFile"),
    secondsPerStep,
  }),
);
await trainer.close();
