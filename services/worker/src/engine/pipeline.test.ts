import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { RankTrainers, digestsOf, largestDifference } from "../../test/rank-trainers.ts";
import type { Trainer } from "../training/trainer.ts";

let ranks: RankTrainers;
beforeAll(async () => (ranks = await RankTrainers.create()));
afterEach(async () => await ranks.closeAll());
afterAll(async () => await ranks.remove());

/** @param layers  of the model: 2 or 3 */
const open = async (mode: "lora" | "full", worldSize: number, stages = 1, layers = 2): Promise<Trainer[]> =>
  await ranks.open({ mode, worldSize, stages, layers: Math.max(2, layers) });

test.each([
  ["lora", 2, 2],
  ["full", 2, 2],
  ["lora", 4, 2],
  ["full", 4, 2],
  ["lora", 3, 3],
  ["full", 6, 3],
] as const)("%s: %i ranks in %i stages have the loss curve of one rank", async (mode, worldSize, stages) => {
  const [alone] = await open(mode, 1, 1, stages);
  const trainers = await open(mode, worldSize, stages, stages);
  const expected = await ranks.train([alone as Trainer], 0, 8);
  const together = await ranks.train(trainers, 0, 8);
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
  await ranks.train(first, 0, 3);
  const directory = await ranks.save(first);
  const second = await open(mode, worldSize, 2);
  for (const trainer of second) await trainer.restore(directory);
  expect(await ranks.train(second, 3, 3)).toEqual(await ranks.train(first, 3, 3));
  expect(await digestsOf(await ranks.save(second))).toEqual(await digestsOf(await ranks.save(first)));
});

test.each([
  ["lora", 2, 2, 1, 1],
  ["full", 2, 2, 2, 1],
  ["full", 2, 1, 4, 2],
] as const)(
  "%s: what %i ranks in %i stages saved, %i ranks in %i stages go on with",
  async (mode, before, stagesBefore, after, stagesAfter) => {
    const first = await open(mode, before, stagesBefore);
    await ranks.train(first, 0, 3);
    const directory = await ranks.save(first);
    const second = await open(mode, after, stagesAfter);
    for (const trainer of second) await trainer.restore(directory);
    const differently = await ranks.train(second, 3, 3);
    expect(largestDifference(differently, await ranks.train(first, 3, 3), "loss")).toBeLessThan(1e-5);
  },
);

test("every rank of a pipeline answers with the weights of all stages", async () => {
  const [alone] = await open("full", 1);
  const trainers = await open("full", 2, 2);
  await ranks.train([alone as Trainer], 0, 6);
  await ranks.train(trainers, 0, 6);
  await Promise.all(trainers.map(async (rank) => await rank.gather?.()));
  const questions = ranks.records.slice(0, 3).map((record) => ({ record }));
  const expected = await alone?.answer(questions, { maxNewTokens: 6 });
  for (const rank of trainers) expect(await rank.answer(questions, { maxNewTokens: 6 })).toEqual(expected);
});
