/*
 * One side of the training benchmark: Drydock's trainer on a model folder and a batch file. Prints one line of JSON with
 * the keys of test/bench/peer/train_peer.py.
 */
import { parseArgs } from "node:util";
import { EngineTrainer, type DeviceSettings } from "@drydock/engine";
import { gpuMemoryOfThisProcess } from "./gpu-memory.ts";
import { readTrainBatch } from "./train-batch.ts";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    batch: { type: "string" },
    mode: { type: "string", default: "full" },
    steps: { type: "string", default: "20" },
    warmup: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
    recompute: { type: "boolean", default: false },
    device: { type: "string", default: "cpu" },
    matrices: { type: "string", default: "bfloat16" },
  },
});

const device: DeviceSettings = {
  kind: "cuda",
  index: 0,
  threads: Number(flags.threads),
  matrices: flags.matrices as DeviceSettings["matrices"],
};
const trainer = await EngineTrainer.open({
  ...(flags.device === "cuda" ? { device } : {}),
  directory: flags.model as string,
  mode: flags.mode as "lora" | "full",
  lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
  optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
  schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 1000 },
  seed: 1,
  threads: Number(flags.threads),
  recomputes: flags.recompute,
});
const batch = await readTrainBatch(flags.batch as string);
const seconds: number[] = [];
const losses: number[] = [];
for (let step = 0; step < Number(flags.warmup) + Number(flags.steps); step++) {
  const started = performance.now();
  const { loss } = await trainer.step([batch]);
  losses.push(loss);
  if (step >= Number(flags.warmup)) seconds.push((performance.now() - started) / 1000);
}
const sorted = seconds.toSorted((a, b) => a - b);
const usedBytes = flags.device === "cuda" ? await gpuMemoryOfThisProcess() : null;
console.log(
  JSON.stringify({
    tokensPerStep: batch.batchSize * batch.sequenceLength,
    deviceMemoryBytes: usedBytes,
    secondsPerStep: sorted[Math.floor(sorted.length / 2)],
    secondsPerStepLow: sorted[0],
    secondsPerStepHigh: sorted.at(-1),
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    trainableParameters: trainer.trainedParameters,
    firstLoss: losses[0],
    lastLoss: losses.at(-1),
  }),
);
await trainer.close();
