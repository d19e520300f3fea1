/**
 * Trains the golden models for three steps, LoRA and full, and has PEFT and transformers load what was written: the logits
 * must be those that Drydock gives. Then goes the whole way from picture files and messages to logits in both.
 * Needs the Python packages of `requirements.txt`, so it is no part of `make test`.
 *
 * usage: check-fidelity.ts --python PYTHON
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { EngineTrainer, TextTokenizer, createRandomModel, writeSafetensors, type ModelBatch } from "@drydock/engine";
import { preprocessorConfig, tinyConfig } from "../../demo/tiny-base/architecture.ts";
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
  const { batchSize, sequenceLength, pictures, pixelPatches } = batch;
  const patches = pictures.reduce((sum, { grid: { time, height, width } }) => sum + time * height * width, 0);
  const shape = [batchSize, sequenceLength];
  const grids = pictures.flatMap(({ grid: { time, height, width } }) => [time, height, width]);
  await writeSafetensors(path, [
    { name: "input_ids", shape, data: batch.inputIds },
    { name: "attention_mask", shape, data: BigInt64Array.from(batch.attentionMask, BigInt) },
    { name: "image_grid_thw", shape: [pictures.length, 3], data: BigInt64Array.from(grids, BigInt) },
    { name: "pixel_values", shape: [patches, pixelPatches.length / patches], data: pixelPatches },
    { name: "logits", shape: [...shape, logits.length / (batchSize * sequenceLength)], data: logits },
  ]);
}

/** Status 0? */
async function succeeds(command: string, parameters: readonly string[]): Promise<boolean> {
  const child = spawn(command, parameters, { stdio: "inherit" });
  const [status] = (await once(child, "exit")) as [number | null];
  return status === 0;
}

async function runPython(script: string, paths: readonly string[]): Promise<boolean> {
  return await succeeds(values.python, [join(import.meta.dirname, script), ...paths]);
}

/** A random model with the golden tokenizer and template, and two pictures, one of them turned by its EXIF data. */
async function makePipelineFolder(directory: string): Promise<void> {
  await cp(join(import.meta.dirname, "text/model"), directory, { recursive: true });
  const tokenizer = await TextTokenizer.load(directory);
  await createRandomModel(tinyConfig(tokenizer.idOf("<|endoftext|>")), directory, 1);
  await writeFile(join(directory, "preprocessor_config.json"), JSON.stringify(preprocessorConfig));
  for (const name of ["tall.png", "turned.jpg"])
    await cp(join(import.meta.dirname, "images", name), join(directory, name));
  const content = [
    { type: "image", image: "turned.jpg" },
    { type: "text", text: "\nIs there a red apple at 123,456 or in " },
    { type: "image", image: "tall.png" },
    { type: "text", text: " – naïve 東京?" },
  ];
  const messages = [
    { role: "system", content: "You look at one picture." },
    { role: "user", content },
    { role: "assistant", content: '[{"bbox_2d":[0,12,345,1000],"label":"red apple"}]' },
  ];
  await writeFile(join(directory, "messages.json"), JSON.stringify(messages));
}

async function checkPipeline(directory: string): Promise<boolean> {
  await makePipelineFolder(directory);
  const [messages, logits] = [join(directory, "messages.json"), join(directory, "logits.safetensors")];
  const worker = resolve(import.meta.dirname, "../../services/worker/src/main.ts");
  return (
    (await succeeds(process.execPath, [worker, "logits", directory, "--messages", messages, "--out", logits])) &&
    (await runPython("check_pipeline.py", [directory, messages, logits]))
  );
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
  console.log("a conversation with two pictures, random model:");
  if (!(await checkPipeline(join(scratch, "pipeline")))) process.exitCode = 1;
} finally {
  await rm(scratch, { recursive: true, force: true });
}
