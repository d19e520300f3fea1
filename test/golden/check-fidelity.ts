/**
 * Trains the golden models for three steps, LoRA and full, and has PEFT and transformers load what was written: the logits
 * must be those that Drydock gives. Needs the Python packages of `requirements.txt`, so it is no part of `make test`.
 *
 * usage: check-fidelity.ts --python PYTHON
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { EngineTrainer, writeSafetensors, type ModelBatch } from "@drydock/engine";
import { goldenSample, type GoldenSample } from "../support/golden-sample.ts";

const { values } = parseArgs({ options: { python: { type: "string", default: "python3" } } });

type Mode = "lora" | "full";

async function train(sample: GoldenSample, mode: Mode, directory: string): Promise<Float32Array> {
  const trainer = await EngineTrainer.open({
    directory: sample.modelDirectory,
    mode,
    lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate: 1e-2, warmupRatio: 0, totalSteps: 3 },
    seed: 1,
    threads: 2,
  });
  try {
    for (let step = 0; step < 3; step++) await trainer.step([sample.batch]);
    await trainer.save(directory);
    return await (await trainer.generator()).logits(sample.batch);
  } finally {
    await trainer.close();
  }
}

async function writeLogits(path: string, batch: ModelBatch, logits: Float32Array): Promise<void> {
  const { batchSize, sequenceLength, imageGrids, pixelPatches } = batch;
  const patches = imageGrids.reduce((sum, { time, height, width }) => sum + time * height * width, 0);
  const shape = [batchSize, sequenceLength];
  const grids = imageGrids.flatMap(({ time, height, width }) => [time, height, width]);
  await writeSafetensors(path, [
    { name: "input_ids", shape, data: batch.inputIds },
    { name: "attention_mask", shape, data: BigInt64Array.from(batch.attentionMask, BigInt) },
    { name: "image_grid_thw", shape: [imageGrids.length, 3], data: BigInt64Array.from(grids, BigInt) },
    { name: "pixel_values", shape: [patches, pixelPatches.length / patches], data: pixelPatches },
    { name: "logits", shape: [...shape, logits.length / (batchSize * sequenceLength)], data: logits },
  ]);
}

async function runPython(script: string, paths: readonly string[]): Promise<boolean> {
  const child = spawn(values.python, [join(import.meta.dirname, script), ...paths], { stdio: "inherit" });
  const [status] = (await once(child, "exit")) as [number | null];
  return status === 0;
}

const scratch = await mkdtemp(join(tmpdir(), "drydock-fidelity-"));
try {
  for (const shape of ["tied", "untied"]) {
    const sample = await goldenSample(shape);
    for (const mode of ["lora", "full"] as const) {
      const directory = join(scratch, shape, mode);
      const logits = join(scratch, `${shape}-${mode}.safetensors`);
      await writeLogits(logits, sample.batch, await train(sample, mode, directory));
      console.log(`${shape}, ${mode}, after 3 steps:`);
      const agrees =
        mode === "lora"
          ? await runPython("check_adapter_in_peft.py", [sample.modelDirectory, directory, logits])
          : await runPython("check_model_in_transformers.py", [directory, logits]);
      if (!agrees) process.exitCode = 1;
    }
  }
} finally {
  await rm(scratch, { recursive: true, force: true });
}
