import { describe, expect, test } from "vitest";
import { findAccelerator } from "../accelerators/accelerators.ts";
import { findModel } from "../catalogue/catalogue.ts";
import { RunSpec } from "../contract/run-spec.ts";
import type { Accelerator } from "../accelerators/accelerator.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import type { SampleTokens } from "../tokens/token-monitor.ts";
import { estimateCost, estimateDuration, trainingOperations, type DurationQuestion } from "./duration.ts";

function found<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error("not found");
  return value;
}

const model: ModelFacts = found(findModel("qwen2.5-vl-7b"));
const a100: Accelerator = found(findAccelerator("nvidia-a100-80gb"));
const text = (tokens: number): SampleTokens => ({
  visual: 0,
  text: tokens,
  total: tokens,
  labels: tokens,
  patches: 0,
  patchesPerSegment: 0,
});
const specOf = (mode: "lora" | "full", baseWeights: "bf16" | "nf4" = "bf16"): RunSpec =>
  RunSpec.parse({ name: "a", model: "qwen2.5-vl-7b", mode, dataset: "a@1", task: "vqa", training: { baseWeights } });

test("a token costs 4 operations a weight with LoRA and 6 in full, 2 more where activations are recomputed", () => {
  const perWeight = (mode: "lora" | "full", recomputes: boolean): number =>
    trainingOperations({ mode }, model, { ...text(1), labels: 0 }, recomputes) / 6_525_288_448;
  expect(
    [perWeight("lora", false), perWeight("lora", true), perWeight("full", false), perWeight("full", true)].map(
      Math.round,
    ),
  ).toEqual([4, 6, 6, 8]);
});

describe("published throughput lies within the range of utilisation that plans assume", () => {
  test.each([
    ["Qwen2.5-VL-7B LoRA, packed 2,048, A100, recomputed", "lora", 1781, 312, true],
    ["Qwen2.5-VL-7B full, packed 2,048, A100, recomputed", "full", 999, 312, true],
    ["Qwen2.5-7B LoRA, 4,096, H100, kept", "lora", 14_110, 989, false],
  ] as const)("%s", (_name, mode, tokensPerSecond, teraflops, recomputes) => {
    const share =
      (trainingOperations({ mode }, model, text(2048), recomputes) * (tokensPerSecond / 2048)) / (teraflops * 1e12);
    expect(share).toBeGreaterThan(0.15);
    expect(share).toBeLessThan(0.5);
  });
});

const question: DurationQuestion = {
  spec: specOf("lora"),
  model,
  accelerator: a100,
  layout: {
    gpus: 1,
    pods: 1,
    gpusPerPod: 1,
    dataParallel: 1,
    pipelineStages: 1,
    sharding: "none",
    microBatchSize: 1,
    accumulationSteps: 16,
    recomputeActivations: true,
  },
  mean: text(1000),
  steps: 100,
};

test("time grows with steps, shrinks with GPUs, and grows with a pipeline's bubble and a quantized base", () => {
  const expected = (changes: Partial<DurationQuestion>): number =>
    estimateDuration({ ...question, ...changes }).expected;
  expect(expected({ steps: 200 })).toBeGreaterThan(expected({}));
  expect(expected({ layout: { ...question.layout, gpus: 4, dataParallel: 4, accumulationSteps: 4 } })).toBeLessThan(
    expected({}),
  );
  const staged = { ...question.layout, gpus: 4, pipelineStages: 4 };
  expect(expected({ layout: { ...staged, accumulationSteps: 4 } })).toBeGreaterThan(
    expected({ layout: { ...staged, accumulationSteps: 16 } }),
  );
  expect(expected({ spec: specOf("lora", "nf4") })).toBeGreaterThan(expected({}));
});

test("the range is ordered and its basis names samples, throughput and what is left out", () => {
  const time = estimateDuration(question);
  expect(time.low).toBeLessThan(time.expected);
  expect(time.expected).toBeLessThan(time.high);
  expect(time.basis).toMatch(
    /1600 samples × .* GFLOP on 1 device at 30 % \(15–50 %\) of 312 TFLOP\/s each.*evaluation not included/,
  );
});

test("cost is hours × devices × price", () => {
  const time = { low: 1800, expected: 3600, high: 7200, basis: "" };
  expect(estimateCost(a100, { ...question.layout, gpus: 2 }, time)).toMatchObject({
    low: 2.7,
    expected: 5.4,
    high: 10.8,
    currency: "USD",
  });
});
