import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EngineTrainer,
  collate,
  gradientsOf,
  loadModel,
  openModelFolder,
  type AnswerGenerator,
  type Model,
  type ModelBatch,
  type TrainerOptions,
} from "@drydock/engine";
import { recordDifference } from "./fidelity-record.ts";
import { caseNames, readCurves, readFloats, readParityCase, type Curves, type ParityCase } from "./parity-case.ts";

/** Rank and alpha of the adapters that `case.py` writes. */
const lora = { rank: 4, alpha: 8, dropout: 0, targets: "all-linear" } as const;

/** Largest absolute difference over the rows that are no padding. */
function largestDifference(actual: Float32Array, expected: Float32Array, batch: ModelBatch): number {
  expect(actual).toHaveLength(expected.length);
  const width = expected.length / batch.attentionMask.length;
  let largest = 0;
  for (let index = 0; index < expected.length; index++)
    if (batch.attentionMask[Math.floor(index / width)])
      largest = Math.max(largest, Math.abs((actual[index] as number) - (expected[index] as number)));
  return largest;
}

/**
 * ‖a − b‖ / ‖b‖, or as a share of `least` where b is smaller than that.
 *
 * Some gradients are zero but for rounding: a bias of keys adds the same to all scores of a query, which the softmax takes no
 * notice of. What is less than 1e-5 of the whole gradient is compared with that share of it.
 */
export function relativeDifference(actual: Float32Array, expected: Float32Array, least = 0): number {
  let difference = 0;
  expected.forEach((value, index) => (difference += (value - (actual[index] as number)) ** 2));
  return Math.sqrt(difference) / Math.max(lengthOf([expected]), least);
}

/** L2 norm of all elements. */
function lengthOf(parts: Iterable<Float32Array>): number {
  let sum = 0;
  for (const part of parts) for (const value of part) sum += value ** 2;
  return Math.sqrt(sum);
}

/**
 * Everything that the golden values of a family say of the engine: logits, gradients, loss curves, greedy answers, saved models
 * and adapters. Each check tells the worst difference it saw, for the table in docs/fidelity.md.
 */
export function describeParity(
  family: string,
  shapes: readonly string[],
  options: { readonly hasAdapters?: boolean; readonly reference?: string } = {},
): void {
  const { hasAdapters = true, reference = "transformers" } = options;
  describe.each(shapes)(`${family}, %s, against ${reference}`, (shape) => {
    const directory = resolve(import.meta.dirname, family, shape);
    const modelDirectory = join(directory, "model");
    const adapterDirectory = join(directory, "adapter");
    const record = (check: string, difference: number): void => recordDifference({ family, shape, check, difference });
    let model: Model;
    let cases: Readonly<Record<(typeof caseNames)[number], ParityCase>>;
    let curves: Curves;
    let scratch: string;
    let generator: AnswerGenerator;
    beforeAll(async () => {
      scratch = await mkdtemp(join(tmpdir(), "drydock-parity-"));
      ({ model } = await openModelFolder(modelDirectory));
      const read = caseNames.map(async (name) => [name, await readParityCase(directory, name, model)] as const);
      cases = Object.fromEntries(await Promise.all(read)) as unknown as typeof cases;
      curves = await readCurves(directory);
      ({ generator } = await loadModel({ directory: modelDirectory, threads: 2 }));
    });
    afterAll(async () => {
      await generator.close();
      await rm(scratch, { recursive: true, force: true });
    });

    const trainer = (mode: "lora" | "full", learningRate: number, further: Partial<TrainerOptions> = {}) =>
      EngineTrainer.open({
        directory: modelDirectory,
        mode,
        ...(mode === "lora" ? { adapterDirectory } : {}),
        lora,
        optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
        schedule: { kind: "constant", learningRate, warmupRatio: 0, totalSteps: 20 },
        seed: 1,
        threads: 2,
        ...further,
      });

    test.each(caseNames)("logits agree within 1e-4: %s", async (name) => {
      const { batch, logits } = cases[name];
      const difference = largestDifference(await generator.logits(batch), logits, batch);
      record("logits", difference);
      expect(difference).toBeLessThan(1e-4);
    });

    // Not skipped where there are none: a skipped test is a failure in CI.
    if (hasAdapters)
      test("logits of a PEFT adapter agree within 1e-4", async () => {
        const { batch, adapterLogits } = cases.batch;
        const adapted = await loadModel({ directory: modelDirectory, adapterDirectory, threads: 2 });
        const difference = largestDifference(
          await adapted.generator.logits(batch),
          adapterLogits as Float32Array,
          batch,
        );
        await adapted.generator.close();
        record("logits with adapter", difference);
        expect(difference).toBeLessThan(1e-4);
      });

    test.each([
      ["in one piece", false, {}],
      ["layer by layer, activations computed again", true, {}],
      ["attention and loss some rows at a time", true, { attention: 500, logits: 500 }],
    ])("the gradient of every parameter agrees within 1e-3, %s", async (_how, recomputes, limits) => {
      const { loss, gradients } = await gradientsOf(modelDirectory, cases.batch.batch, recomputes, limits);
      expect(Math.abs(loss - curves.loss)).toBeLessThan(1e-4);
      const expected = await readFloats(join(directory, "gradients.safetensors"));
      expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort());
      const least = 1e-5 * lengthOf(expected.values());
      let worst = 0;
      for (const [name, values] of expected) {
        const difference = relativeDifference(gradients.get(name) as Float32Array, values, least);
        worst = Math.max(worst, difference);
        expect(difference, name).toBeLessThan(1e-3);
      }
      record("gradients (relative)", worst);
    });

    test.each(hasAdapters ? (["full", "lora"] as const) : (["full"] as const))(
      "the loss of 20 AdamW steps, %s, agrees within 1e-3",
      async (mode) => {
        const curve = curves[mode] ?? curves.full;
        const engine = await trainer(mode, curve.learningRate);
        let worst = 0;
        for (const [loss, norm] of curve.steps) {
          const step = await engine.step([cases.batch.batch]);
          worst = Math.max(worst, Math.abs(step.loss - loss));
          expect(Math.abs(step.loss - loss)).toBeLessThan(1e-3);
          expect(Math.abs(step.gradientNorm / norm - 1)).toBeLessThan(1e-2);
        }
        await engine.close();
        record(`loss of 20 steps, ${mode}`, worst);
      },
    );

    test.each(caseNames)("64 greedy tokens are those of the reference, with the cache: %s", async (name) => {
      const { batch, greedy } = cases[name];
      const answers = await generator.answers(batch, { maxNewTokens: 64, stopTokenIds: [] });
      record("greedy tokens that differ", answers.flat().filter((id, at) => id !== greedy.flat()[at]).length);
      expect(answers).toEqual(greedy);
    });

    test("64 greedy tokens are those of the reference, without a cache", async () => {
      const { rows, greedy } = cases["one-image"];
      expect(await greedyByWholePasses(generator, model, rows[0] as ParityCase["rows"][0], 64)).toEqual(greedy[0]);
    });

    test("one row a micro-batch gives the step of the whole batch", async () => {
      const mode = hasAdapters ? "lora" : "full";
      const [whole, pieces] = [await trainer(mode, 1e-3), await trainer(mode, 1e-3)];
      const expected = await whole.step([cases.batch.batch]);
      const actual = await pieces.step(cases.batch.rows.map((row) => collate([row], model)));
      expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(1e-5);
      expect(actual.labelTokens).toBe(expected.labelTokens);
      expect(Math.abs(actual.gradientNorm / expected.gradientNorm - 1)).toBeLessThan(1e-4);
      await whole.close();
      await pieces.close();
    });

    test("what a trainer saves gives the trainer's logits when it is loaded", async () => {
      for (const mode of hasAdapters ? (["lora", "full"] as const) : (["full"] as const)) {
        const engine = await trainer(mode, 1e-3);
        await engine.step([cases.batch.batch]);
        const { batch } = cases.batch;
        const expected = await (await engine.generator()).logits(batch);
        const saved = join(scratch, mode);
        await engine.save(saved);
        const loaded = await loadModel(
          mode === "lora"
            ? { directory: modelDirectory, adapterDirectory: saved, threads: 2 }
            : { directory: saved, threads: 2 },
        );
        expect(largestDifference(await loaded.generator.logits(batch), expected, batch)).toBeLessThan(1e-5);
        await engine.close();
        await loaded.generator.close();
      }
    });

    test("the folder holds what its script makes", () => {
      const hasParts = existsSync(join(directory, "model/llm"));
      const weights = hasParts ? "model/llm/model.safetensors" : "model/model.safetensors";
      const files = ["model/config.json", weights, "gradients.safetensors"];
      for (const file of [...files, ...(hasAdapters ? ["adapter/adapter_model.safetensors"] : [])])
        expect(existsSync(join(directory, file)), file).toBe(true);
    });
  });
}

/** Greedy answer of one row by whole passes over the growing row. */
async function greedyByWholePasses(
  generator: AnswerGenerator,
  model: Model,
  row: ParityCase["rows"][0],
  tokens: number,
): Promise<number[]> {
  const answer: number[] = [];
  let grown = row; // with its labels: they say where prompts end that are read in both directions
  for (let step = 0; step < tokens; step++) {
    const batch = collate([grown], model);
    const logits = await generator.logits(batch);
    const last = logits.subarray(logits.length - logits.length / batch.sequenceLength);
    const next = last.indexOf(last.reduce((largest, value) => Math.max(largest, value)));
    answer.push(next);
    grown = { ...grown, inputIds: [...grown.inputIds, next], labels: [...grown.labels, -100] };
  }
  return answer;
}
