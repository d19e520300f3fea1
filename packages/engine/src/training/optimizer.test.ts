import { expect, test } from "vitest";
import { sharedFloats, toShared } from "../runtime/shared-floats.ts";
import { isDecayed, ThreadedAdamW, type AdamWSettings } from "./adamw.ts";
import type { TrainedTensor } from "./trained-tensor.ts";
import { dropoutMask } from "./dropout.ts";
import { blockElements } from "./optimizer-kernels.ts";
import { SeededRandom } from "./random.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";

function tensorOf(values: readonly number[], gradient: readonly number[], decayed = false): TrainedTensor {
  return {
    name: "w",
    shape: [values.length],
    values: toShared(Float32Array.from(values)),
    gradient: toShared(Float32Array.from(gradient)),
    firstMoment: sharedFloats(values.length),
    secondMoment: sharedFloats(values.length),
    isDecayed: decayed,
  };
}

const settings: AdamWSettings = { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 };

async function afterSteps(
  tensors: readonly TrainedTensor[],
  changed: Partial<AdamWSettings>,
  learningRate: number,
  { steps = 1, threads = 1 } = {},
): Promise<number> {
  const optimizer = new ThreadedAdamW(tensors, { ...settings, ...changed }, threads);
  for (let step = 1; step <= steps; step++) await optimizer.step(learningRate, step, 1);
  const norm = await optimizer.gradientNorm();
  await optimizer.close();
  return norm;
}

test("the first AdamW step moves by the learning rate against the sign of the gradient", async () => {
  const tensor = tensorOf([1, 1, 1], [0.5, -3, 0]);
  await afterSteps([tensor], {}, 0.1);
  expect(tensor.values[0]).toBeCloseTo(0.9, 5);
  expect(tensor.values[1]).toBeCloseTo(1.1, 5);
  expect(tensor.values[2]).toBe(1);
});

test("weight decay is decoupled: it shrinks the weight whatever the gradient, where the tensor is decayed", async () => {
  const decayed = tensorOf([2], [0], true);
  const other = tensorOf([2], [0]);
  await afterSteps([decayed, other], { weightDecay: 0.1 }, 0.5);
  expect(decayed.values[0]).toBeCloseTo(2 * (1 - 0.05), 6);
  expect(other.values[0]).toBe(2);
});

test("the norm is over all tensors, whatever their lengths", async () => {
  expect(await afterSteps([tensorOf([0, 0], [3, 0]), tensorOf([0], [4])], {}, 0)).toBeCloseTo(5, 6);
  const long = Array.from({ length: 3 * blockElements + 5 }, (_, index) => (index % 2 ? 2 : -2));
  expect(await afterSteps([tensorOf(long, long)], {}, 0)).toBeCloseTo(2 * Math.sqrt(long.length), 6);
});

test("steps follow the formula of the paper, in double precision, to the rounding of single precision", async () => {
  const random = new SeededRandom(3);
  const size = 1000;
  const [values, gradient] = [1, 2].map(() => Array.from({ length: size }, () => random.normal())) as [
    number[],
    number[],
  ];
  const tensor = tensorOf(values, gradient, true);
  await afterSteps([tensor], { weightDecay: 0.01 }, 1e-2, { steps: 5 });
  const expected = values.map((value, index) => {
    const g = gradient[index] as number;
    let [w, m, v] = [value, 0, 0];
    for (let step = 1; step <= 5; step++) {
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      w -= 1e-2 * 0.01 * w;
      w -= (1e-2 * (m / (1 - 0.9 ** step))) / (Math.sqrt(v / (1 - 0.999 ** step)) + 1e-8);
    }
    return w;
  });
  const worst = Math.max(...expected.map((value, index) => Math.abs(value - (tensor.values[index] as number))));
  expect(worst).toBeLessThan(2e-6);
});

test("the update and the norm are the same bit for bit whatever the number of threads", async () => {
  const sizes = [1, 63, 5 * blockElements + 7, 20 * blockElements, 100];
  const run = async (threads: number): Promise<{ values: Float32Array[]; norm: number }> => {
    const random = new SeededRandom(9);
    const numbers = (length: number): number[] => Array.from({ length }, () => random.normal());
    const tensors = sizes.map((size, index) => tensorOf(numbers(size), numbers(size), index % 2 === 0));
    const norm = await afterSteps(tensors, { weightDecay: 0.1 }, 1e-3, { steps: 3, threads });
    return {
      values: tensors.flatMap(({ values, firstMoment, secondMoment }) => [values, firstMoment, secondMoment]),
      norm,
    };
  };
  const alone = await run(1);
  expect(await run(3)).toEqual(alone);
});

test("moments that fade become 0 and never numbers that processors are slow with", async () => {
  const tensor = tensorOf([1], [0]);
  tensor.firstMoment[0] = 2e-38;
  tensor.secondMoment[0] = 1.2e-38;
  await afterSteps([tensor], {}, 1e-3, { steps: 30 });
  expect(tensor.firstMoment[0]).toBe(0);
  expect(tensor.secondMoment[0]).toBe(0);
});

test.each([
  ["model.language_model.layers.0.self_attn.q_proj.weight", false, true],
  ["model.language_model.layers.0.input_layernorm.weight", false, false],
  ["model.language_model.layers.0.self_attn.q_norm.weight", false, false],
  ["model.language_model.norm.weight", false, false],
  ["model.visual.blocks.0.attn.qkv.bias", false, false],
  ["model.visual.blocks.0.norm1.weight", true, false],
  ["model.visual.pos_embed.weight", false, true],
])("%s is decayed as the reference decays it", (name, isLayerNorm, expected) => {
  expect(isDecayed(name, isLayerNorm)).toBe(expected);
});

const schedule = (kind: Schedule["kind"]): Schedule => ({ kind, learningRate: 1, warmupRatio: 0.2, totalSteps: 10 });

test("warm-up starts at 0 and ends at the learning rate", () => {
  expect([0, 1, 2].map((step) => learningRateAt(schedule("linear"), step))).toEqual([0, 0.5, 1]);
});

test("cosine and linear end at 0, constant stays", () => {
  expect(learningRateAt(schedule("cosine"), 6)).toBeCloseTo(0.5, 9);
  expect(learningRateAt(schedule("cosine"), 10)).toBeCloseTo(0, 9);
  expect(learningRateAt(schedule("linear"), 10)).toBe(0);
  expect(learningRateAt(schedule("constant"), 10)).toBe(1);
});

test("a dropout mask depends on the row, not on how rows are put into micro-batches or padded", () => {
  const whole = dropoutMask(0.3, 1, 5, 0, 2, 4, 6, "q_proj");
  const second = dropoutMask(0.3, 1, 5, 1, 1, 3, 6, "q_proj");
  expect([...whole.subarray(24, 24 + 18)]).toEqual([...second]);
});

test("a dropout mask drops its share and keeps the mean", () => {
  const mask = dropoutMask(0.25, 1, 0, 0, 40, 10, 50, "q_proj");
  const mean = mask.reduce((sum, value) => sum + value, 0) / mask.length;
  expect(mean).toBeCloseTo(1, 1);
  expect(mask.filter((value) => value === 0).length / mask.length).toBeCloseTo(0.25, 1);
});
