/*
 * One side of `make bench-families`: Drydock on the model and the rows that family_peer.py prepared. Prints one line of JSON with that
 * script's keys.
 *
 * usage: family-subject.ts FOLDER full|lora|decode [--steps N] [--threads N]
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { EngineTrainer, loadModel, openModelFolder } from "@drydock/engine";
import { readParityCase } from "../golden/parity/parity-case.ts";

const newTokens = 64;
const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: "string", default: "5" }, threads: { type: "string", default: "2" } },
});
const [folder = "", what = "full"] = positionals;
const directory = join(folder, "model");
const threads = Number(flags.threads);
const { model } = await openModelFolder(directory);
const { batch } = await readParityCase(folder, "batch", model);

/** Seconds of each of some runs, the first `warmup` left out. */
async function timed(run: () => Promise<unknown>, warmup: number): Promise<number[]> {
  const seconds: number[] = [];
  for (let step = 0; step < warmup + Number(flags.steps); step++) {
    const started = performance.now();
    await run();
    if (step >= warmup) seconds.push((performance.now() - started) / 1000);
  }
  return seconds;
}

async function decode(): Promise<number[]> {
  const { generator } = await loadModel({ directory, threads });
  const seconds = await timed(
    async () => await generator.answers(batch, { maxNewTokens: newTokens, stopTokenIds: [] }),
    1,
  );
  await generator.close();
  return seconds;
}

async function train(mode: "full" | "lora"): Promise<number[]> {
  const trainer = await EngineTrainer.open({
    directory,
    mode,
    lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 1000 },
    seed: 1,
    threads,
  });
  const seconds = await timed(async () => await trainer.step([batch]), 2);
  await trainer.close();
  return seconds;
}

const seconds = (what === "decode" ? await decode() : await train(what === "lora" ? "lora" : "full")).toSorted(
  (a, b) => a - b,
);
const tokens = batch.batchSize * (what === "decode" ? newTokens : batch.sequenceLength);
console.log(
  JSON.stringify({
    seconds: seconds[Math.floor(seconds.length / 2)],
    secondsLow: seconds[0],
    tokens,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
