import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineTrainer, openModelFolder, writeSafetensors, type ModelBatch } from "@drydock/engine";
import type { Difference } from "./parity/fidelity-record.ts";
import { readParityCase } from "./parity/parity-case.ts";

const parity = join(import.meta.dirname, "parity");
const steps = 20;

/** The families that have parity cases, and their scripts. */
export async function parityFamilies(): Promise<{ family: string; script: string }[]> {
  const entries = await readdir(parity, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith("__"))
    .map(({ name }) => ({ family: name, script: join(parity, `${name.replaceAll(/[-.]/g, "_")}.py`) }))
    .toSorted((a, b) => a.family.localeCompare(b.family));
}

/**
 * Trains the models of a family that the reference saved for 20 steps, in full and as LoRA, saves them, and has the reference load
 * what was saved. Answers the largest differences of logits.
 */
export async function roundTrips(
  { family, script }: { readonly family: string; readonly script: string },
  python: string,
  scratch: string,
): Promise<Difference[]> {
  for (const shape of await shapesOf(family)) await trainAndSave(join(parity, family, shape), join(scratch, shape));
  const lines = await linesOf(python, [join(import.meta.dirname, "check_round_trip.py"), script, scratch]);
  return lines.map((line) => ({ family, ...(JSON.parse(line) as Omit<Difference, "family">) }));
}

async function shapesOf(family: string): Promise<string[]> {
  const entries = await readdir(join(parity, family), { withFileTypes: true, recursive: true });
  return entries
    .filter(({ name }) => name === "cases.safetensors")
    .map(({ parentPath }) => parentPath.split("/").at(-1) as string);
}

async function trainAndSave(golden: string, target: string): Promise<void> {
  const directory = join(golden, "model");
  const { model } = await openModelFolder(directory);
  const { batch } = await readParityCase(golden, "batch", model);
  await mkdir(target, { recursive: true });
  for (const mode of model.loraRefusal === null ? (["full", "lora"] as const) : (["full"] as const)) {
    const trainer = await EngineTrainer.open({
      directory,
      mode,
      lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
      optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
      schedule: { kind: "constant", learningRate: mode === "full" ? 1e-3 : 1e-2, warmupRatio: 0, totalSteps: steps },
      seed: 1,
      threads: 2,
    });
    try {
      for (let step = 0; step < steps; step++) await trainer.step([batch]);
      await trainer.save(join(target, mode));
      await writeLogits(join(target, `${mode}.safetensors`), batch, await (await trainer.generator()).logits(batch));
    } finally {
      await trainer.close();
    }
  }
}

async function writeLogits(
  path: string,
  { batchSize, sequenceLength }: ModelBatch,
  logits: Float32Array,
): Promise<void> {
  const shape = [batchSize, sequenceLength, logits.length / (batchSize * sequenceLength)];
  await writeSafetensors(path, [{ name: "logits", shape, data: logits }]);
}

/** What a program prints, by line. @throws Error when it ends with another status than 0 */
async function linesOf(command: string, parameters: readonly string[]): Promise<string[]> {
  const child = spawn(command, parameters, { stdio: ["ignore", "pipe", "inherit"] });
  let told = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (told += text));
  const [status] = (await once(child, "close")) as [number | null];
  if (status !== 0) throw new Error(`${command} ${parameters.join(" ")} ended with ${status}`);
  return told.split("\n").filter((line) => line.startsWith("{"));
}
