import fc from "fast-check";
import { expect, test } from "vitest";
import { catalogue, findModel } from "../catalogue/catalogue.ts";
import { estimateMemory, type MemoryEstimate } from "./memory.ts";
import type { MemoryLayout, MemoryQuestion } from "./memory-question.ts";
import { drydockCpuRecipe, drydockGpuRecipe } from "./recipe.ts";

interface Drawn {
  readonly model: string;
  readonly isFull: boolean;
  readonly isGpu: boolean;
  readonly dataParallel: number;
  readonly pipelineStages: number;
  readonly sharding: MemoryLayout["sharding"];
  readonly microBatchSize: number;
  readonly recomputeActivations: boolean;
  readonly tokens: number;
  readonly labels: number;
  readonly patches: number;
}

const questions: fc.Arbitrary<Drawn> = fc.record({
  model: fc.constantFrom(...catalogue.map((model) => model.name)),
  isFull: fc.boolean(),
  isGpu: fc.boolean(),
  dataParallel: fc.constantFrom(1, 2, 4, 8),
  pipelineStages: fc.constantFrom(1, 2, 4),
  sharding: fc.constantFrom("none", "optimizer", "gradients", "full"),
  microBatchSize: fc.integer({ min: 1, max: 16 }),
  recomputeActivations: fc.boolean(),
  tokens: fc.integer({ min: 16, max: 8192 }),
  labels: fc.integer({ min: 1, max: 16 }),
  patches: fc.integer({ min: 0, max: 8192 }),
});

/** One decoder-only sample in LoRA on one GPU. */
const plain: Drawn = {
  model: "qwen3-vl-8b",
  isFull: false,
  isGpu: true,
  dataParallel: 1,
  pipelineStages: 1,
  sharding: "none",
  microBatchSize: 2,
  recomputeActivations: true,
  tokens: 1000,
  labels: 100,
  patches: 0,
};

function ask(drawn: Drawn, changes: Partial<Drawn> = {}): MemoryEstimate {
  const { model, isFull, isGpu, tokens, labels, patches, ...layout } = { ...drawn, ...changes };
  const facts = findModel(model);
  if (facts === undefined) throw new Error(`${model} is not in the catalogue`);
  const trainable: MemoryQuestion["trainable"] = isFull
    ? { decoder: "full", vision: "full", bridge: "full", embeddings: "full" }
    : { decoder: "adapter", vision: "frozen", bridge: "frozen", embeddings: "frozen" };
  return estimateMemory({
    architecture: facts.architecture,
    trainable,
    lora: isFull ? null : { rank: 16, targets: "all-linear" },
    baseWeights: "bf16",
    layout: { ...layout, tensorParallel: 1, accumulationSteps: 4 },
    sample: { tokens, labels, patches, patchesPerSegment: patches },
    recipe: isGpu ? drydockGpuRecipe : drydockCpuRecipe,
  });
}

const always = (property: (drawn: Drawn) => void): void =>
  fc.assert(fc.property(questions, property), { numRuns: 200 });

test("no term is negative and the terms sum to the total", () => {
  always((drawn) => {
    const { terms, totalBytes } = ask(drawn);
    for (const term of terms) expect(term.sizeBytes).toBeGreaterThanOrEqual(0);
    expect(terms.reduce((sum, term) => sum + term.sizeBytes, 0)).toBe(totalBytes);
  });
});

test("a larger micro-batch or a longer sample never needs less", () => {
  always((drawn) => {
    const { totalBytes } = ask(drawn);
    expect(ask(drawn, { microBatchSize: drawn.microBatchSize + 1 }).totalBytes).toBeGreaterThanOrEqual(totalBytes);
    // On the CPU attention goes in pieces above so many tokens, which is what pieces are for: it needs less there.
    const goesInPieces = !drawn.isGpu && drawn.tokens <= 1024 && drawn.tokens + 64 > 1024;
    const least = goesInPieces ? 0 : totalBytes;
    expect(ask(drawn, { tokens: drawn.tokens + 64 }).totalBytes).toBeGreaterThanOrEqual(least);
  });
});

test("recomputing activations never needs more", () => {
  always((drawn) => {
    const recomputed = ask(drawn, { recomputeActivations: true }).totalBytes;
    expect(recomputed).toBeLessThanOrEqual(ask(drawn, { recomputeActivations: false }).totalBytes);
  });
});

test("more data-parallel ranks never need more memory each", () => {
  always((drawn) => {
    // One rank has nothing to gather, so full sharding is compared from two ranks on.
    const dataParallel = drawn.sharding === "full" ? Math.max(2, drawn.dataParallel) : drawn.dataParallel;
    const doubled = ask(drawn, { dataParallel: dataParallel * 2 }).totalBytes;
    expect(doubled).toBeLessThanOrEqual(ask(drawn, { dataParallel }).totalBytes);
  });
});

test("more pipeline stages never need more memory each", () => {
  always((drawn) => {
    const doubled = ask(drawn, { pipelineStages: drawn.pipelineStages * 2 }).totalBytes;
    expect(doubled).toBeLessThanOrEqual(ask(drawn).totalBytes);
  });
});

test("a 7B model in full mode holds 18 bytes a parameter beside the update's temporaries", () => {
  const { terms } = ask({ ...plain, model: "qwen2.5-vl-7b", isFull: true, tokens: 16, labels: 1 });
  const size = (name: string): number => terms.find((term) => term.name === name)?.sizeBytes ?? 0;
  const state = size("weights") + size("gradients") + size("optimizer");
  const temporaries = 8e9 - size("activations") - size("logits");
  expect(state - temporaries).toBe(18 * 8_292_166_656);
});

test("a formula shows its numbers", () => {
  const formulas = Object.fromEntries(ask(plain).terms.map((term) => [term.name, term.formula]));
  expect(formulas).toMatchObject({
    weights: "2 B × 6.95 G decoder layers + 2 B × 1.24 G embeddings and head + 2 B × 576.7 M vision, bridge and norms",
    adapter: "4 B × 43.6 M adapter parameters (rank 16 · (in + out) over the targeted layers)",
    logits: "1.1 × 12 B × 200 answer positions × 151.9 k words",
  });
});
