import { cp, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { openPipeline, type TcpRing } from "@drydock/engine";
import { sha256 } from "@drydock/kit";
import { RunSpec, WorkerConfig, type DataRecord } from "@drydock/spec";
import { localRing } from "../../test/local-ring.ts";
import { createTinyData, createTinyModel } from "../../test/tiny-model.ts";
import { localPathOf, readMessagesFile } from "../rows/read-messages.ts";
import type { StepMeasure, Trainer } from "../training/trainer.ts";
import { engineDoors } from "./engine-doors.ts";

let root: string;
let records: DataRecord[];
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-ranks-"));
  await createTinyModel(join(root, "model"));
  const path = await createTinyData(join(root, "data"), 12);
  records = await readMessagesFile(path, { task: "vqa", scratchDirectory: root });
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

const rings: TcpRing[] = [];
const trainers: Trainer[] = [];
afterEach(async () => {
  await Promise.all(trainers.splice(0).map(async (trainer) => await trainer.close()));
  await Promise.all(rings.splice(0).map(async (ring) => await ring.close()));
});

const globalBatchSize = 6;

function configOf(mode: "lora" | "full", worldSize: number, stages = 1, recomputes = false): WorkerConfig {
  return WorkerConfig.parse({
    kind: "train",
    runId: "r1",
    spec: RunSpec.parse({
      name: "tiny",
      model: "tiny-base",
      mode,
      dataset: "tiny@1",
      task: "vqa",
      training: { globalBatchSize, learningRate: 0.01, lora: { rank: 4, alpha: 8, dropout: 0.1 } },
    }),
    layout: {
      gpus: worldSize,
      pods: worldSize,
      gpusPerPod: 1,
      dataParallel: worldSize / stages,
      pipelineStages: stages,
      sharding: mode === "full" && worldSize > stages ? "optimizer" : "none",
      microBatchSize: 2,
      accumulationSteps: 1,
      recomputeActivations: recomputes,
    },
    totalSteps: 20,
    modelDirectory: join(root, "model"),
    recordsKey: "",
    systemPrompt: "Be brief.",
    planDigest: "p",
    datasetDigest: null,
    modelName: "tiny",
    modelVersion: 1,
    threads: 1,
  });
}

async function open(mode: "lora" | "full", worldSize: number, stages = 1, recomputes = false): Promise<Trainer[]> {
  const ring = worldSize === 1 ? [null] : await localRing(worldSize);
  rings.push(...ring.filter((rank) => rank !== null));
  const opened = await Promise.all(
    ring.map(
      async (rank) =>
        await engineDoors.openTrainer(configOf(mode, worldSize, stages, recomputes), localPathOf, rank, async () =>
          openPipeline({ collective: rank as TcpRing, stages, host: "127.0.0.1", epoch: 1, token: "secret" }),
        ),
    ),
  );
  trainers.push(...opened);
  return opened;
}

/** What every rank measured, step by step. */
async function train(ranks: readonly Trainer[], firstStep: number, steps: number): Promise<StepMeasure[][]> {
  const measures: StepMeasure[][] = [];
  for (let step = firstStep; step < firstStep + steps; step++) {
    const first = (globalBatchSize * step) % records.length;
    const batch = records.slice(first, first + globalBatchSize);
    measures.push(await Promise.all(ranks.map(async (rank) => await rank.step(batch, step + 1))));
  }
  return measures;
}

async function save(ranks: readonly Trainer[]): Promise<string> {
  const directory = await mkdtemp(join(root, "checkpoint-"));
  await Promise.all(ranks.map(async (rank) => await rank.save(directory)));
  return directory;
}

async function digestsOf(directory: string): Promise<Record<string, string>> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".safetensors"));
  const digests = names.sort().map(async (name) => [name, sha256(await readFile(join(directory, name)))] as const);
  return Object.fromEntries(await Promise.all(digests));
}

function largestDifference(a: readonly StepMeasure[][], b: readonly StepMeasure[][], key: keyof StepMeasure): number {
  return Math.max(...a.map((measures, step) => relative(measures[0]?.[key] ?? 0, b[step]?.[0]?.[key] ?? 1)));
}

function relative(a: number, b: number): number {
  return Math.abs(a - b) / Math.abs(b);
}

test.each([
  ["lora", 2],
  ["lora", 4],
  ["full", 2],
  ["full", 3],
] as const)(
  "%s on %i ranks has the loss curve of one rank with the same global batch, dropout included",
  async (mode, worldSize) => {
    const alone = await train(await open(mode, 1), 0, 8);
    const ranks = await open(mode, worldSize);
    const together = await train(ranks, 0, 8);
    expect(largestDifference(together, alone, "loss")).toBeLessThan(1e-5);
    expect(largestDifference(together, alone, "gradientNorm")).toBeLessThan(1e-3);
    expect(together.map((measures) => measures[0]?.tokens)).toEqual(alone.map((measures) => measures[0]?.tokens));
    for (const measures of together) for (const measure of measures) expect(measure).toEqual(measures[0]);
    const published = await Promise.all(
      ranks.map(async (rank) => {
        const directory = await mkdtemp(join(root, "model-"));
        await rank.publish(directory);
        return await digestsOf(directory);
      }),
    );
    for (const digests of published) expect(digests).toEqual(published[0]);
  },
);

test.each([
  ["lora", 2, 2],
  ["full", 2, 2],
  ["lora", 4, 2],
  ["full", 4, 2],
] as const)("%s: %i ranks in %i stages have the loss curve of one rank", async (mode, worldSize, stages) => {
  const [alone] = await open(mode, 1);
  const ranks = await open(mode, worldSize, stages);
  const expected = await train([alone as Trainer], 0, 8);
  const together = await train(ranks, 0, 8);
  expect(largestDifference(together, expected, "loss")).toBeLessThan(1e-5);
  expect(largestDifference(together, expected, "gradientNorm")).toBeLessThan(1e-3);
  expect(together.map((measures) => measures[0]?.tokens)).toEqual(expected.map((measures) => measures[0]?.tokens));
  for (const measures of together) for (const measure of measures) expect(measure).toEqual(measures[0]);
});

test.each([
  ["lora", 2],
  ["full", 2],
  ["full", 4],
] as const)("%s: %i ranks in two stages, saved and restored, go on bit for bit", async (mode, worldSize) => {
  const first = await open(mode, worldSize, 2);
  await train(first, 0, 3);
  const directory = await save(first);
  const second = await open(mode, worldSize, 2);
  for (const trainer of second) await trainer.restore(directory);
  expect(await train(second, 3, 3)).toEqual(await train(first, 3, 3));
  expect(await digestsOf(await save(second))).toEqual(await digestsOf(await save(first)));
});

test.each([
  ["lora", 2, 2, 1, 1],
  ["full", 2, 2, 2, 1],
  ["full", 2, 1, 4, 2],
] as const)(
  "%s: what %i ranks in %i stages saved, %i ranks in %i stages go on with",
  async (mode, before, stagesBefore, after, stagesAfter) => {
    const first = await open(mode, before, stagesBefore);
    await train(first, 0, 3);
    const directory = await save(first);
    const second = await open(mode, after, stagesAfter);
    for (const trainer of second) await trainer.restore(directory);
    const differently = await train(second, 3, 3);
    expect(largestDifference(differently, await train(first, 3, 3), "loss")).toBeLessThan(1e-5);
  },
);

test("every rank of a pipeline answers with the weights of all stages", async () => {
  const [alone] = await open("full", 1);
  const ranks = await open("full", 2, 2);
  await train([alone as Trainer], 0, 6);
  await train(ranks, 0, 6);
  await Promise.all(ranks.map(async (rank) => await rank.gather?.()));
  const questions = records.slice(0, 3).map((record) => ({ record }));
  const expected = await alone?.answer(questions, { maxNewTokens: 6 });
  for (const rank of ranks) expect(await rank.answer(questions, { maxNewTokens: 6 })).toEqual(expected);
});

test.each(["lora", "full"] as const)(
  "%s: with activations computed again, sums that begin during the backward pass are the same on every rank",
  async (mode) => {
    const alone = await train(await open(mode, 1), 0, 6);
    const together = await train(await open(mode, 2, 1, true), 0, 6);
    expect(largestDifference(together, alone, "loss")).toBeLessThan(1e-5);
    for (const measures of together) for (const measure of measures) expect(measure).toEqual(measures[0]);
  },
);

test("a rank that gets no row of a small batch trains along", async () => {
  const step = async (ranks: readonly Trainer[]): Promise<StepMeasure[]> =>
    await Promise.all(ranks.map(async (rank) => await rank.step(records.slice(0, 2), 1)));
  const [alone] = await step(await open("lora", 1));
  const measures = await step(await open("lora", 3));
  for (const measure of measures) expect(relative(measure.loss, alone?.loss ?? 0)).toBeLessThan(1e-5);
});

test.each(["lora", "full"] as const)(
  "%s: ranks that are saved and restored go on bit for bit; each needs its own part of the optimizer only",
  async (mode) => {
    const first = await open(mode, 2);
    await train(first, 0, 3);
    const directory = await save(first);
    const second = await open(mode, 2);
    for (const [rank, trainer] of second.entries()) {
      const own = await mkdtemp(join(root, "own-"));
      for (const name of await readdir(directory))
        if (trainer.needsToRestore(name, 2)) await cp(join(directory, name), join(own, name));
      const parts = (await readdir(own)).filter((name) => name.startsWith("optimizer"));
      expect(parts).toEqual([mode === "full" ? `optimizer-${rank}.safetensors` : "optimizer-0.safetensors"]);
      await trainer.restore(own);
    }
    expect(await train(second, 3, 3)).toEqual(await train(first, 3, 3));
    expect(await digestsOf(await save(second))).toEqual(await digestsOf(await save(first)));
  },
);

test.each([
  ["lora", 2, 3],
  ["full", 2, 3],
  ["full", 3, 1],
  ["full", 1, 2],
] as const)("%s: what %i ranks saved, %i ranks go on with: the same losses to 1e-5", async (mode, before, after) => {
  const first = await open(mode, before);
  await train(first, 0, 3);
  const directory = await save(first);
  const second = await open(mode, after);
  for (const trainer of second) await trainer.restore(directory);
  const differently = await train(second, 3, 3);
  const straight = await train(first, 3, 3);
  expect(largestDifference(differently, straight, "loss")).toBeLessThan(1e-5);
});

test("the optimizer's parts of two ranks are half of the whole each", async () => {
  const directory = await save(await open("full", 2));
  const alone = await save(await open("full", 1));
  const sizeOf = async (folder: string, name: string): Promise<number> => (await readFile(join(folder, name))).length;
  const whole = await sizeOf(alone, "optimizer-0.safetensors");
  for (const name of ["optimizer-0.safetensors", "optimizer-1.safetensors"])
    expect(relative(await sizeOf(directory, name), whole / 2)).toBeLessThan(0.1);
});

test("ranks that are not those of the layout are refused", async () => {
  const config = configOf("lora", 2);
  await expect(engineDoors.openTrainer(config, localPathOf, null)).rejects.toThrow(
    "the layout is for 2 ranks, but 1 were started",
  );
  const staged = { ...config, layout: { ...config.layout, pipelineStages: 2 } };
  await expect(engineDoors.openTrainer(staged, localPathOf, null)).rejects.toThrow(
    "the layout is for 2 ranks of 2 stages each, but 1 were started",
  );
});
