/*
 * One side of the training benchmark: Drydock's trainer on a model folder and a batch file. Prints one line of JSON with
 * the keys of test/bench/peer/train_peer.py.
 */
import { parseArgs } from "node:util";
import {
  EngineTrainer,
  readFloatTensors,
  readSafetensorsHeader,
  readTensorBytes,
  type ModelBatch,
} from "@drydock/engine";

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    batch: { type: "string" },
    mode: { type: "string", default: "full" },
    steps: { type: "string", default: "20" },
    warmup: { type: "string", default: "3" },
    threads: { type: "string", default: "2" },
  },
});

async function readBatch(path: string): Promise<ModelBatch> {
  const header = await readSafetensorsHeader(path);
  const integers = async (name: string): Promise<BigInt64Array> =>
    new BigInt64Array((await readTensorBytes(header, name)).slice().buffer);
  const [batchSize = 0, sequenceLength = 0] = header.tensors.get("input_ids")?.shape ?? [];
  const inputIds = await integers("input_ids");
  const kinds = await integers("mm_token_type_ids");
  const targets = await integers("labels");
  const grids = await integers("image_grid_thw");
  const isLast = (index: number): boolean => index % sequenceLength === sequenceLength - 1;
  return {
    batchSize,
    sequenceLength,
    inputIds,
    attentionMask: Uint8Array.from(await integers("attention_mask"), Number),
    positionIds: Int32Array.from(await integers("position_ids"), Number),
    labels: Int32Array.from(targets, (_, index) => (isLast(index) ? -100 : Number(targets[index + 1]))),
    pixelPatches: (await readFloatTensors(header, ["pixel_values"])).get("pixel_values") as Float32Array,
    imageGrids: Array.from({ length: grids.length / 3 }, (_, index) => ({
      time: Number(grids[3 * index]),
      height: Number(grids[3 * index + 1]),
      width: Number(grids[3 * index + 2]),
    })),
    imageRows: Int32Array.from([...kinds.keys()].filter((index) => kinds[index] === 1n)),
  };
}

const trainer = await EngineTrainer.open({
  directory: flags.model as string,
  mode: flags.mode as "lora" | "full",
  lora: { rank: 16, alpha: 32, dropout: 0, targets: "all-linear" },
  optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
  schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 1000 },
  seed: 1,
  threads: Number(flags.threads),
});
const batch = await readBatch(flags.batch as string);
const seconds: number[] = [];
const losses: number[] = [];
for (let step = 0; step < Number(flags.warmup) + Number(flags.steps); step++) {
  const started = performance.now();
  const { loss } = await trainer.step([batch]);
  losses.push(loss);
  if (step >= Number(flags.warmup)) seconds.push((performance.now() - started) / 1000);
}
const sorted = seconds.toSorted((a, b) => a - b);
console.log(
  JSON.stringify({
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
