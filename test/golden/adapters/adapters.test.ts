import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  EngineTrainer,
  loadModel,
  mergeAdapter,
  openModelFolder,
  readSafetensorsHeader,
  type LoraOptions,
  type ModelBatch,
  type TrainerOptions,
} from "@drydock/engine";
import { recordDifference } from "../parity/fidelity-record.ts";
import { readFloats, readParityCase } from "../parity/parity-case.ts";
import { relativeDifference } from "../parity/parity-suite.ts";

const here = import.meta.dirname;
const golden = resolve(here, "../parity/qwen3-vl/untied");
const modelDirectory = join(golden, "model");
const { learningRate, kinds } = JSON.parse(await readFile(join(here, "adapters.json"), "utf8")) as {
  readonly learningRate: number;
  readonly kinds: Readonly<Record<string, LoraOptions>>;
};
const keyPrefix = "base_model.model.";

let batch: ModelBatch;
let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-adapters-"));
  const { model } = await openModelFolder(modelDirectory);
  ({ batch } = await readParityCase(golden, "batch", model));
});
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

function optionsOf(lora: LoraOptions, adapterDirectory: string | null, maxGradientNorm = 1): TrainerOptions {
  return {
    directory: modelDirectory,
    mode: "lora",
    ...(adapterDirectory === null ? {} : { adapterDirectory }),
    lora,
    optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm },
    schedule: { kind: "constant", learningRate, warmupRatio: 0, totalSteps: 20 },
    seed: 1,
    threads: 2,
  };
}

test.each(Object.keys(kinds))("%s names its base as the repository does, not as a computer", async (kind) => {
  const config = JSON.parse(await readFile(join(here, kind, "adapter", "adapter_config.json"), "utf8")) as object;
  expect(config).toMatchObject({ base_model_name_or_path: "test/golden/parity/qwen3-vl/untied/model" });
});

/** Largest absolute difference where there is a token. */
function largestDifference(actual: Float32Array, expected: Float32Array): number {
  const width = expected.length / batch.attentionMask.length;
  return expected.reduce(
    (worst, value, index) =>
      batch.attentionMask[Math.floor(index / width)]
        ? Math.max(worst, Math.abs(value - (actual[index] as number)))
        : worst,
    0,
  );
}

async function keysOf(directory: string): Promise<string[]> {
  const { tensors } = await readSafetensorsHeader(join(directory, "adapter_model.safetensors"));
  return [...tensors].map(([name, { shape }]) => `${name} [${shape.join(", ")}]`).sort();
}

describe.each(Object.entries(kinds))("an adapter of PEFT, %s", (kind, lora) => {
  const adapterDirectory = join(here, kind, "adapter");
  let expected: Map<string, Float32Array>;
  beforeAll(async () => (expected = await readFloats(join(here, kind, "values.safetensors"))));
  const record = (check: string, difference: number): void =>
    recordDifference({ family: `adapters: ${kind}`, shape: "-", check, difference });

  test("gives PEFT's logits", async () => {
    const { generator } = await loadModel({ directory: modelDirectory, adapterDirectory, threads: 2 });
    const difference = largestDifference(await generator.logits(batch), expected.get("logits") as Float32Array);
    await generator.close();
    record("logits with adapter", difference);
    expect(difference).toBeLessThan(1e-4);
  });

  test("gets PEFT's gradients, in every tensor that PEFT trains and in no other", async () => {
    const trainer = await EngineTrainer.open(optionsOf(lora, adapterDirectory, 1e9));
    await trainer.step([batch]);
    const { moments } = trainer.state();
    await trainer.close();
    const gradients = [...expected].filter(([name]) => name.startsWith("gradient:"));
    let worst = 0;
    for (const [name, values] of gradients) {
      const own = name.slice(`gradient:${keyPrefix}`.length).replace(".base_layer.", ".");
      const moment = moments.find((each) => each.name === own);
      expect(moment, own).toBeDefined();
      // After the first step the first moment is a tenth of the gradient.
      const difference = relativeDifference(moment?.firstMoment.map((value) => value * 10) as Float32Array, values);
      worst = Math.max(worst, difference);
      expect(difference, own).toBeLessThan(1e-3);
    }
    expect(moments).toHaveLength(gradients.length);
    record("gradients (relative)", worst);
  });

  test("merged into the base gives the same logits", async () => {
    const out = join(scratch, `${kind}-merged`);
    await mergeAdapter({ directory: modelDirectory, adapterDirectory, out });
    const merged = await loadModel({ directory: out, threads: 2 });
    const difference = largestDifference(await merged.generator.logits(batch), expected.get("logits") as Float32Array);
    await merged.generator.close();
    record("logits, merged", difference);
    expect(difference).toBeLessThan(1e-4);
  });

  test("follows PEFT's losses for 20 AdamW steps", async () => {
    const trainer = await EngineTrainer.open(optionsOf(lora, adapterDirectory));
    const curve = expected.get("curve") as Float32Array;
    let worst = 0;
    for (let step = 0; step < 20; step++) {
      const { loss, gradientNorm } = await trainer.step([batch]);
      worst = Math.max(worst, Math.abs(loss - (curve[2 * step] as number)));
      expect(Math.abs(gradientNorm / (curve[2 * step + 1] as number) - 1)).toBeLessThan(1e-2);
    }
    await trainer.close();
    record("loss of 20 steps, lora", worst);
    expect(worst).toBeLessThan(1e-3);
  });

  test("begun here, begins at the base model, and is saved with PEFT's tensors", async () => {
    const base = await loadModel({ directory: modelDirectory, threads: 2 });
    const trainer = await EngineTrainer.open(optionsOf(lora, null));
    const ofBase = await base.generator.logits(batch);
    expect(largestDifference(await (await trainer.generator()).logits(batch), ofBase)).toBeLessThan(1e-5);
    await trainer.step([batch]);
    const directory = join(scratch, kind);
    await trainer.save(directory);
    expect(await keysOf(directory)).toEqual(await keysOf(adapterDirectory));
    const loaded = await loadModel({ directory: modelDirectory, adapterDirectory: directory, threads: 2 });
    const trained = await (await trainer.generator()).logits(batch);
    expect(largestDifference(await loaded.generator.logits(batch), trained)).toBeLessThan(1e-5);
    expect(largestDifference(trained, ofBase)).toBeGreaterThan(1e-3);
    await trainer.close();
    await loaded.generator.close();
    await base.generator.close();
  });
});

const changesBase = ({ useDora, modulesToSave, bias }: LoraOptions): boolean =>
  Boolean(useDora ?? modulesToSave ?? bias);

describe("an adapter taken out of a merged model", () => {
  const takeOut = async (kind: string): Promise<string> => {
    const adapterDirectory = join(here, kind, "adapter");
    const [merged, out] = [join(scratch, `${kind}-in`), join(scratch, `${kind}-out`)];
    await mergeAdapter({ directory: modelDirectory, adapterDirectory, out: merged });
    await mergeAdapter({ directory: merged, adapterDirectory, out, takesOut: true });
    return out;
  };
  const names = Object.keys(kinds);

  test.each(names.filter((kind) => !changesBase(kinds[kind] as LoraOptions)))("leaves the base: %s", async (kind) => {
    const base = await loadModel({ directory: modelDirectory, threads: 2 });
    const unmerged = await loadModel({ directory: await takeOut(kind), threads: 2 });
    const logits = await base.generator.logits(batch);
    expect(largestDifference(await unmerged.generator.logits(batch), logits)).toBeLessThan(1e-4);
    await base.generator.close();
    await unmerged.generator.close();
  });

  test.each(names.filter((kind) => changesBase(kinds[kind] as LoraOptions)))(
    "is refused where the base is not in the model: %s",
    async (kind) => await expect(takeOut(kind)).rejects.toThrow("keep the base"),
  );
});
