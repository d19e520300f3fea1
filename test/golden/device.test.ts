/*
 * The engine's path of GPUs, on the CPU: the same graphs, the same bindings, arrays that stay on the "device" between steps.
 * What only a GPU can show (its kernels, its memory) is not shown here.
 */
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import {
  EngineTrainer,
  collate,
  openModelFolder,
  type Model,
  type ModelBatch,
  type TrainerOptions,
} from "@drydock/engine";
import { localRing } from "../../services/worker/test/local-ring.ts";
import { relativeDifference } from "./parity/parity-suite.ts";
import { readCurves, readParityCase, type Curves, type ParityCase } from "./parity/parity-case.ts";

const directory = resolve(import.meta.dirname, "parity/qwen3-vl/untied");
const modelDirectory = join(directory, "model");
let batch: ParityCase;
let model: Model;
let curves: Curves;
beforeAll(async () => {
  ({ model } = await openModelFolder(modelDirectory));
  batch = await readParityCase(directory, "batch", model);
  curves = await readCurves(directory);
});

function optionsOf(mode: "full" | "lora", learningRate: number, weightDecay: number): TrainerOptions {
  return {
    directory: modelDirectory,
    mode,
    ...(mode === "lora" ? { adapterDirectory: join(directory, "adapter") } : {}),
    lora: { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" },
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay, maxGradientNorm: 1 },
    schedule: { kind: "constant", learningRate, warmupRatio: 0, totalSteps: 20 },
    seed: 1,
    threads: 1,
  };
}
const device = { kind: "cpu", index: 0, threads: 1, matrices: "float32" } as const;

describe.each(["full", "lora"] as const)("training on a device, %s", (mode) => {
  test.each([
    ["kept", false],
    ["computed again", true],
  ])("follows the reference's loss and gradient norm for 20 steps, activations %s", async (_how, recomputes) => {
    const { learningRate, steps } = curves[mode] ?? curves.full;
    const trainer = await EngineTrainer.open({ ...optionsOf(mode, learningRate, 0), device, recomputes });
    for (const [loss, norm] of steps) {
      const step = await trainer.step([batch.batch]);
      expect(Math.abs(step.loss - loss)).toBeLessThan(1e-3);
      expect(Math.abs(step.gradientNorm / norm - 1)).toBeLessThan(1e-2);
    }
    await trainer.close();
  });

  test("gives the weights and moments of training on the host, micro-batches and weight decay included", async () => {
    const pieces = batch.rows.map((row) => collate([row], model));
    const onDevice = await EngineTrainer.open({ ...optionsOf(mode, 1e-2, 0.1), device });
    const onHost = await EngineTrainer.open(optionsOf(mode, 1e-2, 0.1));
    for (let step = 0; step < 4; step++) {
      const actual = await onDevice.step(pieces);
      const expected = await onHost.step(pieces);
      expect(actual.labelTokens).toBe(expected.labelTokens);
      expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(1e-4);
    }
    await onDevice.gather();
    const [actual, expected] = [onDevice.state(), onHost.state()];
    expect(actual.tensors.map(({ name }) => name)).toEqual(expected.tensors.map(({ name }) => name));
    for (const [index, { name, values }] of expected.tensors.entries())
      expect(relativeDifference(actual.tensors[index]?.values as Float32Array, values), name).toBeLessThan(1e-3);
    for (const [index, { name, secondMoment }] of expected.moments.entries())
      expect(relativeDifference(actual.moments[index]?.secondMoment as Float32Array, secondMoment), name).toBeLessThan(
        1e-3,
      );
    await onDevice.close();
    await onHost.close();
  });

  test("restored from its state, goes on bit for bit", async () => {
    const straight = await EngineTrainer.open({ ...optionsOf(mode, 1e-2, 0.1), device });
    for (let step = 0; step < 4; step++) await straight.step([batch.batch]);
    await straight.gather();
    const first = await EngineTrainer.open({ ...optionsOf(mode, 1e-2, 0.1), device });
    for (let step = 0; step < 2; step++) await first.step([batch.batch]);
    await first.gather();
    const second = await EngineTrainer.open({ ...optionsOf(mode, 1e-2, 0.1), device });
    second.restore(structuredClone(first.state()));
    for (let step = 0; step < 2; step++) await second.step([batch.batch]);
    await second.gather();
    expect(second.state()).toEqual(straight.state());
    for (const trainer of [straight, first, second]) await trainer.close();
  });
});

test("answers on a device are those of the reference, weights and caches staying there", async () => {
  const trainer = await EngineTrainer.open({ ...optionsOf("full", 1e-3, 0), device });
  const generator = await trainer.generator();
  const answers = await generator.answers(batch.batch, { maxNewTokens: 64, stopTokenIds: [] });
  expect(answers).toEqual(batch.greedy);
  const logits = await generator.logits(batch.batch);
  await trainer.step([batch.batch]);
  expect(await generator.logits(batch.batch)).not.toEqual(logits); // the weights that were trained answer
  await generator.close();
  await trainer.close();
});

test.each([
  ["lora", false],
  ["full", true],
] as const)("two ranks on devices, %s, optimizer sharded: %s, have the curve of one", async (mode, shardOptimizer) => {
  const learningRate = curves[mode]?.learningRate ?? 1e-3;
  const rings = await localRing(2);
  const ranks = await Promise.all(
    rings.map(async (collective) =>
      EngineTrainer.open({ ...optionsOf(mode, learningRate, 0), device, collective, shardOptimizer }),
    ),
  );
  const [first, ...others] = batch.rows.map((row) => collate([row], model));
  for (const [loss] of (curves[mode]?.steps ?? []).slice(0, 8)) {
    const steps = await Promise.all([ranks[0]?.step([first as ModelBatch]), ranks[1]?.step(others, 1)]);
    expect(steps[0]).toEqual(steps[1]);
    expect(Math.abs((steps[0]?.loss ?? 0) - loss)).toBeLessThan(1e-3);
  }
  for (const rank of ranks) await rank.close();
  await Promise.all(rings.map(async (ring) => await ring.close()));
});

test("half-precision products follow the float32 curve, and a scale keeps their gradients", async () => {
  const { learningRate, steps } = curves.full;
  const trainer = await EngineTrainer.open({
    ...optionsOf("full", learningRate, 0),
    device: { ...device, matrices: "float16" },
  });
  for (const [loss] of steps) {
    const step = await trainer.step([batch.batch]);
    expect(Math.abs(step.loss / loss - 1)).toBeLessThan(2e-2);
  }
  await trainer.close();
});
