import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EngineTrainer,
  gradientsOf,
  loadModel,
  readFloatTensors,
  readSafetensorsHeader,
  type ModelBatch,
  type TrainerOptions,
} from "@drydock/engine";
import { goldenSample, type GoldenSample } from "../support/golden-sample.ts";

interface Curve {
  readonly learningRate: number;
  readonly steps: readonly (readonly [number, number])[];
}

let scratch: string;
beforeAll(async () => (scratch = await mkdtemp(join(tmpdir(), "drydock-golden-"))));
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

async function floats(path: string): Promise<Map<string, Float32Array>> {
  const header = await readSafetensorsHeader(path);
  return await readFloatTensors(header, header.tensors.keys());
}

/** Largest absolute difference over the rows that are no padding. */
function largestDifference(actual: Float32Array, expected: Float32Array, batch: ModelBatch): number {
  const width = expected.length / batch.attentionMask.length;
  let largest = 0;
  for (let index = 0; index < expected.length; index++)
    if (batch.attentionMask[Math.floor(index / width)])
      largest = Math.max(largest, Math.abs((actual[index] as number) - (expected[index] as number)));
  return largest;
}

/** ‖a − b‖ / ‖b‖. */
function relativeDifference(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let size = 0;
  expected.forEach((value, index) => {
    difference += (value - (actual[index] as number)) ** 2;
    size += value ** 2;
  });
  return Math.sqrt(difference / size);
}

function trainerOptions(sample: GoldenSample, mode: "lora" | "full", learningRate: number): TrainerOptions {
  return {
    directory: sample.modelDirectory,
    mode,
    ...(mode === "lora" ? { adapterDirectory: sample.adapterDirectory } : {}),
    lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate, warmupRatio: 0, totalSteps: 20 },
    seed: 1,
    threads: 2,
  };
}

describe.each(["tied", "untied"])("Qwen3-VL, %s embeddings, against transformers", (shape) => {
  let sample: GoldenSample;
  let curves: { readonly loss: number; readonly full: Curve; readonly lora: Curve };
  beforeAll(async () => {
    sample = await goldenSample(shape);
    curves = JSON.parse(await readFile(join(sample.directory, "curves.json"), "utf8")) as typeof curves;
  });

  test("logits agree within 1e-4", async () => {
    const { generator } = await loadModel({ directory: sample.modelDirectory, threads: 2 });
    expect(largestDifference(await generator.logits(sample.batch), sample.logits, sample.batch)).toBeLessThan(1e-4);
    await generator.close();
  });

  test("logits of a PEFT adapter agree within 1e-4", async () => {
    const { generator } = await loadModel({
      directory: sample.modelDirectory,
      adapterDirectory: sample.adapterDirectory,
      threads: 2,
    });
    const expected = (await floats(join(sample.directory, "adapter-logits.safetensors"))).get("logits") as Float32Array;
    expect(largestDifference(await generator.logits(sample.batch), expected, sample.batch)).toBeLessThan(1e-4);
    await generator.close();
  });

  test.each([
    ["in one piece", false],
    ["layer by layer, activations computed again", true],
  ])("the gradient of every parameter agrees within 1e-3, %s", async (_how, recomputes) => {
    const { loss, gradients } = await gradientsOf(sample.modelDirectory, sample.batch, recomputes);
    expect(Math.abs(loss - curves.loss)).toBeLessThan(1e-4);
    const expected = await floats(join(sample.directory, "gradients.safetensors"));
    expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, values] of expected)
      expect(relativeDifference(gradients.get(name) as Float32Array, values), name).toBeLessThan(1e-3);
  });

  test.each([
    ["full", "kept", false],
    ["lora", "kept", false],
    ["full", "computed again", true],
    ["lora", "computed again", true],
  ] as const)("the loss of 20 AdamW steps, %s, activations %s, agrees within 1e-3", async (mode, _how, recomputes) => {
    const curve = curves[mode];
    const trainer = await EngineTrainer.open({ ...trainerOptions(sample, mode, curve.learningRate), recomputes });
    for (const [loss, norm] of curve.steps) {
      const step = await trainer.step([sample.batch]);
      expect(Math.abs(step.loss - loss)).toBeLessThan(1e-3);
      expect(Math.abs(step.gradientNorm / norm - 1)).toBeLessThan(1e-2);
    }
    await trainer.close();
  });

  test("one row a micro-batch gives the step of the whole batch", async () => {
    const whole = await EngineTrainer.open(trainerOptions(sample, "lora", 1e-2));
    const pieces = await EngineTrainer.open(trainerOptions(sample, "lora", 1e-2));
    const expected = await whole.step([sample.batch]);
    const actual = await pieces.step(sample.rows);
    expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(1e-5);
    expect(actual.labelTokens).toBe(expected.labelTokens);
    expect(Math.abs(actual.gradientNorm / expected.gradientNorm - 1)).toBeLessThan(1e-4);
    await whole.close();
    await pieces.close();
  });

  test("restored from its state, a trainer goes on bit for bit, dropout included", async () => {
    const options = {
      ...trainerOptions(sample, "lora", 1e-2),
      lora: { rank: 4, alpha: 8, dropout: 0.2, targets: "all-linear" as const },
    };
    const straight = await EngineTrainer.open(options);
    for (let step = 0; step < 6; step++) await straight.step(sample.rows);
    const first = await EngineTrainer.open(options);
    for (let step = 0; step < 3; step++) await first.step(sample.rows);
    const second = await EngineTrainer.open(options);
    second.restore(structuredClone(first.state()));
    for (let step = 0; step < 3; step++) await second.step(sample.rows);
    expect(second.state()).toEqual(straight.state());
    for (const trainer of [straight, first, second]) await trainer.close();
  });

  test("steps in full are the same bit for bit on one thread and on two", async () => {
    const [one, two] = await Promise.all(
      [1, 2].map(async (threads) => {
        const trainer = await EngineTrainer.open({ ...trainerOptions(sample, "full", 1e-2), threads });
        for (let step = 0; step < 3; step++) await trainer.step([sample.batch]);
        const state = structuredClone(trainer.state());
        await trainer.close();
        return state;
      }),
    );
    expect(two).toEqual(one);
  });

  test("answers with the cache are the answers without it", async () => {
    const { generator } = await loadModel({ directory: sample.modelDirectory, threads: 2 });
    const cached = await generator.answers(sample.batch, { maxNewTokens: 4, stopTokenIds: [] });
    for (let row = 0; row < sample.rows.length; row++) {
      const alone = await generator.answers(sample.rows[row] as ModelBatch, { maxNewTokens: 4, stopTokenIds: [] });
      expect(alone[0]).toEqual(cached[row]);
      expect(cached[row]).toEqual(await sample.greedyWithoutCache(generator, row, 4));
    }
    await generator.close();
  });

  test("a saved adapter and a saved model give the logits of the trainer that saved them", async () => {
    for (const mode of ["lora", "full"] as const) {
      const trainer = await EngineTrainer.open(trainerOptions(sample, mode, 1e-3));
      await trainer.step([sample.batch]);
      const expected = await (await trainer.generator()).logits(sample.batch);
      const directory = join(scratch, shape, mode);
      await trainer.save(directory);
      const loaded = await loadModel(
        mode === "lora"
          ? { directory: sample.modelDirectory, adapterDirectory: directory, threads: 2 }
          : { directory, threads: 2 },
      );
      expect(largestDifference(await loaded.generator.logits(sample.batch), expected, sample.batch)).toBeLessThan(1e-5);
      await trainer.close();
      await loaded.generator.close();
    }
  });
});
