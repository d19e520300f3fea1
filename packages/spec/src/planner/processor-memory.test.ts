import { expect, test } from "vitest";
import { findModel } from "../catalogue/catalogue.ts";
import { estimateMemory } from "./memory.ts";
import type { MemoryQuestion } from "./memory-question.ts";
import { processorMemory } from "./processor-memory.ts";
import { drydockCpuRecipe, drydockGpuRecipe } from "./recipe.ts";

/** An adapter for a 2B model on one long row. */
function ask(changes: Partial<MemoryQuestion> & { readonly recomputes?: boolean; readonly tokens?: number } = {}) {
  const facts = findModel("qwen3-vl-2b");
  if (facts === undefined) throw new Error("qwen3-vl-2b is not in the catalogue");
  const { recomputes = true, tokens = 600, ...rest } = changes;
  const { terms } = estimateMemory({
    architecture: facts.architecture,
    trainable: { decoder: "adapter", vision: "frozen", bridge: "frozen", embeddings: "frozen" },
    lora: { rank: 16, targets: "all-linear" },
    baseWeights: "bf16",
    layout: {
      dataParallel: 1,
      pipelineStages: 1,
      tensorParallel: 1,
      sharding: "none",
      microBatchSize: 1,
      accumulationSteps: 1,
      recomputeActivations: recomputes,
    },
    sample: { tokens, labels: 100, patches: 0, patchesPerSegment: 0 },
    recipe: drydockCpuRecipe,
    ...rest,
  });
  return Object.fromEntries(terms.map((term) => [term.name, term]));
}

test("frozen weights of a large model stream on the CPU where activations are computed again", () => {
  expect(ask()["weights"]?.sizeBytes).toBe(2 ** 31 + 4 * 151_936 * 2048);
  expect(ask()["weights"]?.formula).toMatch(/^3\.\d+ GiB at a time of /);
  expect(ask({ recomputes: false })["weights"]?.sizeBytes).toBeGreaterThan(8e9);
  expect(ask({ recipe: drydockGpuRecipe })["weights"]?.sizeBytes).toBeGreaterThan(4e9);
});

test("beyond the length from which attention goes in pieces, its matrices grow no more", () => {
  const size = (tokens: number): number => ask({ tokens })["activations"]?.sizeBytes ?? 0;
  const { longRow } = processorMemory;
  const perToken = (size(8 * longRow) - size(4 * longRow)) / (4 * longRow);
  expect(size(16 * longRow) - size(8 * longRow)).toBeCloseTo(8 * longRow * perToken, -3);
  expect(ask({ tokens: 8192 })["activations"]?.formula).toContain("of a piece of the attention");
  expect(ask({ tokens: 8192, recipe: drydockGpuRecipe })["activations"]?.formula).toContain("8192²");
});

test("weights that are packed for answers count where they are copied, and are named", () => {
  const facts = findModel("qwen3-vl-2b");
  const text = { ...facts!.architecture.text, hiddenSize: 256, intermediateSize: 512, layers: 4, vocabularySize: 8000 };
  const small = { architecture: { ...facts!.architecture, text, vision: null, bridge: null } };
  expect(ask(small)["runtime"]?.formula).toMatch(/of weights packed for answers \(2 × 4 B × /);
  expect(ask()["runtime"]?.formula).toContain("of weights read in place");
  expect(ask({ recipe: drydockGpuRecipe })["runtime"]?.formula).not.toContain("weights");
});
