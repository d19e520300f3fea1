import { afterEach, expect, test } from "vitest";
import type { DataRecord } from "@drydock/spec";
import { localRing } from "../../test/local-ring.ts";
import { MemoryStorage } from "../../test/memory-storage.ts";
import { ValidationEvaluator } from "../evaluation/validation-evaluator.ts";
import type { Question } from "../training/trainer.ts";
import { RankGroup } from "./rank-group.ts";
import { SharedEvaluator } from "./shared-evaluator.ts";

const records = Array.from({ length: 11 }, (_, row) => ({ rowId: String(row) }) as DataRecord);
const groups: RankGroup[] = [];
afterEach(async () => {
  await Promise.all(groups.splice(0).map(async ({ collective }) => await collective?.close()));
});

/** Ranks whose model answers with the number of the row; `asked` is what each was asked. */
async function ranks(worldSize: number) {
  const storage = new MemoryStorage();
  const rings = await localRing(worldSize);
  return rings.map((ring) => {
    const group = new RankGroup(ring);
    groups.push(group);
    const asked: string[] = [];
    const stop = new AbortController();
    const inner = new ValidationEvaluator({
      storage: group.isFirst ? storage : null,
      records,
      resultsKeyOf: (phase) => `results-${phase}`,
      metrics: ["right"],
      maxSamplesDuring: null,
      maxNewTokens: 4,
      batchSize: 4,
      score: (scored, answers) => ({
        scores: { right: scored.filter(({ rowId }, row) => answers[row] === `row ${rowId}`).length },
        details: () => ({ intervals: {}, slices: [], slicesLeftOut: 0, resamples: {}, seed: 42 }),
        results: [],
      }),
      nowMs: () => 0,
    });
    const model = {
      answer: async (questions: readonly Question[]): Promise<string[]> => {
        const ids = questions.map(({ record }) => record.rowId);
        asked.push(...ids);
        return ids.map((id) => `row ${id}`);
      },
      boxSpaceOf: () => ({ convention: "json-relative-1000" as const }),
    };
    const evaluator = new SharedEvaluator(inner, group);
    return { asked, stop, storage, evaluate: async () => await evaluator.evaluate(model, "after", 5, stop.signal) };
  });
}

test("each rank answers its part, every rank has the scores of all, one stores them", async () => {
  const group = await ranks(3);
  const results = await Promise.all(group.map(async ({ evaluate }) => await evaluate()));
  for (const result of results) expect(result).toMatchObject({ scores: { right: 11 }, samples: 11 });
  expect(group.map(({ asked }) => asked)).toEqual([
    ["0", "3", "4", "7", "8"],
    ["1", "5", "9"],
    ["2", "6", "10"],
  ]);
  expect(await group[0]?.storage.head("results-after")).not.toBeNull();
});

test("when one rank is asked to end, all stop at the same question and nothing is stored", async () => {
  const group = await ranks(2);
  group[1]?.stop.abort();
  expect(await Promise.all(group.map(async ({ evaluate }) => await evaluate()))).toEqual([null, null]);
  expect(await group[0]?.storage.head("results-after")).toBeNull();
});
