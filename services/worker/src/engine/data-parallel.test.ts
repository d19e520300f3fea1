import { cp, mkdtemp, readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { RankTrainers, digestsOf, largestDifference, relative } from "../../test/rank-trainers.ts";
import { localPathOf } from "../rows/read-messages.ts";
import type { StepMeasure, Trainer } from "../training/trainer.ts";
import { engineDoors } from "./engine-doors.ts";

let ranks: RankTrainers;
beforeAll(async () => (ranks = await RankTrainers.create()));
afterEach(async () => await ranks.closeAll());
afterAll(async () => await ranks.remove());

const open = async (mode: "lora" | "full", worldSize: number): Promise<Trainer[]> =>
  await ranks.open({ mode, worldSize });

test.each([
  ["lora", 2],
  ["lora", 4],
  ["full", 2],
  ["full", 3],
] as const)(
  "%s on %i ranks has the loss curve of one rank with the same global batch, dropout included",
  async (mode, worldSize) => {
    const alone = await ranks.train(await open(mode, 1), 0, 8);
    const trainers = await open(mode, worldSize);
    const together = await ranks.train(trainers, 0, 8);
    expect(largestDifference(together, alone, "loss")).toBeLessThan(1e-5);
    expect(largestDifference(together, alone, "gradientNorm")).toBeLessThan(1e-3);
    expect(together.map((measures) => measures[0]?.tokens)).toEqual(alone.map((measures) => measures[0]?.tokens));
    for (const measures of together) for (const measure of measures) expect(measure).toEqual(measures[0]);
    const published = await Promise.all(
      trainers.map(async (rank) => {
        const directory = await mkdtemp(join(ranks.root, "model-"));
        await rank.publish(directory);
        return await digestsOf(directory);
      }),
    );
    for (const digests of published) expect(digests).toEqual(published[0]);
  },
);

test.each(["lora", "full"] as const)(
  "%s: with activations computed again, sums that begin during the backward pass are the same on every rank",
  async (mode) => {
    const alone = await ranks.train(await open(mode, 1), 0, 6);
    const together = await ranks.train(await ranks.open({ mode, worldSize: 2, recomputes: true }), 0, 6);
    expect(largestDifference(together, alone, "loss")).toBeLessThan(1e-5);
    for (const measures of together) for (const measure of measures) expect(measure).toEqual(measures[0]);
  },
);

test("a rank that gets no row of a small batch trains along", async () => {
  const step = async (trainers: readonly Trainer[]): Promise<StepMeasure[]> =>
    await Promise.all(trainers.map(async (rank) => await rank.step(ranks.records.slice(0, 2), 1)));
  const [alone] = await step(await open("lora", 1));
  const measures = await step(await open("lora", 3));
  for (const measure of measures) expect(relative(measure.loss, alone?.loss ?? 0)).toBeLessThan(1e-5);
});

test.each(["lora", "full"] as const)(
  "%s: ranks that are saved and restored go on bit for bit; each needs its own part of the optimizer only",
  async (mode) => {
    const first = await open(mode, 2);
    await ranks.train(first, 0, 3);
    const directory = await ranks.save(first);
    const second = await open(mode, 2);
    for (const [rank, trainer] of second.entries()) {
      const own = await mkdtemp(join(ranks.root, "own-"));
      for (const name of await readdir(directory))
        if (trainer.needsToRestore(name, 2)) await cp(join(directory, name), join(own, name));
      const parts = (await readdir(own)).filter((name) => name.startsWith("optimizer"));
      expect(parts).toEqual([mode === "full" ? `optimizer-${rank}.safetensors` : "optimizer-0.safetensors"]);
      await trainer.restore(own);
    }
    expect(await ranks.train(second, 3, 3)).toEqual(await ranks.train(first, 3, 3));
    expect(await digestsOf(await ranks.save(second))).toEqual(await digestsOf(await ranks.save(first)));
  },
);

test.each([
  ["lora", 2, 3],
  ["full", 2, 3],
  ["full", 3, 1],
  ["full", 1, 2],
] as const)("%s: what %i ranks saved, %i ranks go on with: the same losses to 1e-5", async (mode, before, after) => {
  const first = await open(mode, before);
  await ranks.train(first, 0, 3);
  const directory = await ranks.save(first);
  const second = await open(mode, after);
  for (const trainer of second) await trainer.restore(directory);
  const differently = await ranks.train(second, 3, 3);
  const straight = await ranks.train(first, 3, 3);
  expect(largestDifference(differently, straight, "loss")).toBeLessThan(1e-5);
});

test("the optimizer's parts of two ranks are half of the whole each", async () => {
  const directory = await ranks.save(await open("full", 2));
  const alone = await ranks.save(await open("full", 1));
  const sizeOf = async (folder: string, name: string): Promise<number> => (await readFile(join(folder, name))).length;
  const whole = await sizeOf(alone, "optimizer-0.safetensors");
  for (const name of ["optimizer-0.safetensors", "optimizer-1.safetensors"])
    expect(relative(await sizeOf(directory, name), whole / 2)).toBeLessThan(0.1);
});

test("ranks that are not those of the layout are refused", async () => {
  const config = ranks.configOf({ mode: "lora", worldSize: 2 });
  await expect(engineDoors.openTrainer(config, localPathOf, null)).rejects.toThrow(
    "the layout is for 2 ranks, but 1 were started",
  );
  const staged = { ...config, layout: { ...config.layout, pipelineStages: 2 } };
  await expect(engineDoors.openTrainer(staged, localPathOf, null)).rejects.toThrow(
    "the layout is for 2 ranks of 2 stages each, but 1 were started",
  );
});
