import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EngineTrainer,
  loadModel,
  openModelFolder,
  writeDequantizedFolder,
  writeQuantizedFolder,
  type ModelBatch,
} from "@drydock/engine";
import { readParityCase } from "../parity/parity-case.ts";

/** The first and the last shape of each family whose parity is tested. */
const parity = resolve(import.meta.dirname, "..", "parity");
const families = readdirSync(parity, { withFileTypes: true })
  .filter((entry) => entry.isDirectory() && !entry.name.startsWith("__"))
  .flatMap(({ name }) => {
    const shapes = readdirSync(join(parity, name), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name !== "preprocessing")
      .map((entry) => entry.name)
      .sort();
    return [...new Set([shapes.at(0), shapes.at(-1)])].flatMap((shape) =>
      shape === undefined ? [] : [{ family: name, shape }],
    );
  });

describe.each(families)("$family, $shape", ({ family, shape }) => {
  const directory = join(parity, family, shape);
  let scratch: string;
  let batch: ModelBatch;
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), "drydock-family-"));
    const { model } = await openModelFolder(join(directory, "model"));
    ({ batch } = await readParityCase(directory, "batch", model));
  });
  afterAll(async () => await rm(scratch, { recursive: true, force: true }));

  test.each(["nf4", "int8"] as const)(
    "answers and trains on %s as on the weights that its bytes stand for",
    async (format) => {
      const [quantized, floats] = [join(scratch, format), join(scratch, `${format}-floats`)];
      const layers = await writeQuantizedFolder(join(directory, "model"), quantized, { format, blockSize: 16 });
      expect(layers.length).toBeGreaterThanOrEqual(7);
      await writeDequantizedFolder(quantized, floats);
      expect(difference(await logitsOf(quantized, batch), await logitsOf(floats, batch))).toBeLessThan(1e-4);
      if ((await openModelFolder(quantized)).model.loraRefusal !== null) return;
      expect(difference(await curveOf(quantized, batch), await curveOf(floats, batch))).toBeLessThan(1e-3);
    },
  );
});

async function logitsOf(directory: string, batch: ModelBatch): Promise<Float32Array> {
  const { generator } = await loadModel({ directory, threads: 1 });
  const logits = await generator.logits(batch);
  await generator.close();
  return logits;
}

async function curveOf(directory: string, batch: ModelBatch): Promise<Float32Array> {
  const trainer = await EngineTrainer.open({
    directory,
    mode: "lora",
    lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate: 1e-2, warmupRatio: 0, totalSteps: 5 },
    seed: 1,
    threads: 1,
  });
  const losses: number[] = [];
  for (let step = 0; step < 5; step++) losses.push((await trainer.step([batch])).loss);
  await trainer.close();
  return Float32Array.from(losses);
}

function difference(actual: Float32Array, expected: Float32Array): number {
  return expected.reduce((most, value, at) => Math.max(most, Math.abs(value - (actual[at] as number))), 0);
}
