import { expect, test } from "vitest";
import { adamWStep, gradientNorm, isDecayed, type TrainedTensor } from "./adamw.ts";
import { dropoutMask } from "./dropout.ts";
import { learningRateAt, type Schedule } from "./schedule.ts";

function tensorOf(values: readonly number[], gradient: readonly number[], decayed = false): TrainedTensor {
  return {
    name: "w",
    shape: [values.length],
    values: Float32Array.from(values),
    gradient: Float32Array.from(gradient),
    firstMoment: new Float32Array(values.length),
    secondMoment: new Float32Array(values.length),
    isDecayed: decayed,
  };
}

test("the first AdamW step moves by the learning rate against the sign of the gradient", () => {
  const tensor = tensorOf([1, 1, 1], [0.5, -3, 0]);
  adamWStep([tensor], { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0 }, 0.1, 1, 1);
  expect(tensor.values[0]).toBeCloseTo(0.9, 5);
  expect(tensor.values[1]).toBeCloseTo(1.1, 5);
  expect(tensor.values[2]).toBe(1);
});

test("weight decay is decoupled: it shrinks the weight whatever the gradient", () => {
  const tensor = tensorOf([2], [0], true);
  adamWStep([tensor], { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0.1 }, 0.5, 1, 1);
  expect(tensor.values[0]).toBeCloseTo(2 * (1 - 0.05), 6);
});

test("the norm is over all tensors", () => {
  expect(gradientNorm([tensorOf([0, 0], [3, 0]), tensorOf([0], [4])], 0.5)).toBeCloseTo(2.5, 6);
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
