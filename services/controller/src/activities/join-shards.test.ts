import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scoreWithDetails } from "@drydock/data";
import { FolderStorage } from "@drydock/kit";
import { EvaluationDetails, EvaluationSpec, detailsKeyOf, resultsKeyOf, type SampleResult } from "@drydock/spec";
import { afterEach, beforeEach, expect, test } from "vitest";
import { interleave, joinShards } from "./join-shards.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-join-"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const captions = ["a red bus on the road", "two dogs in the snow", "a man on a horse", "a cat", "a boat at sea"];

const samples = captions.map((expected, index): SampleResult => ({
  rowId: `r${index}`,
  tags: [index < 2 ? "day" : "night"],
  imageKey: null,
  fileName: null,
  width: 100,
  height: 100,
  prompt: "?",
  expected,
  answer: index % 2 === 0 ? expected : "a dog in the road",
  expectedGroundings: [],
  answeredGroundings: [],
  isParsable: true,
  scores: {},
}));

test("rows that were answered in shards are scored as if one worker had answered them, corpus metrics too", async () => {
  const storage = new FolderStorage(root);
  const spec = EvaluationSpec.parse({ model: "m", dataset: "d@1", task: "chat", shards: 3 });
  for (const index of [0, 1, 2]) {
    const rows = samples.filter((_, place) => place % 3 === index);
    await storage.put(
      resultsKeyOf("eval_1", { index, count: 3 }),
      rows.map((row) => `${JSON.stringify(row)}\n`).join(""),
    );
  }
  const joined = await joinShards(storage, "eval_1", spec);
  const whole = scoreWithDetails("chat", ["rouge-l", "exact-match", "bleu-4", "cider-d"], samples);
  expect(joined).toEqual({ scores: whole.scores, details: whole.details, samples: 5 });

  const read = async (key: string) => Buffer.from(await storage.get(key)).toString("utf8");
  const rows = (await read(resultsKeyOf("eval_1"))).trimEnd().split("\n");
  expect(rows.map((row) => (JSON.parse(row) as SampleResult).rowId)).toEqual(["r0", "r1", "r2", "r3", "r4"]);
  expect(rows.map((row) => (JSON.parse(row) as SampleResult).scores)).toEqual(whole.perSample);
  expect(EvaluationDetails.parse(JSON.parse(await read(detailsKeyOf(resultsKeyOf("eval_1")))))).toEqual(whole.details);
});

test("shards are put together as they were dealt", () => {
  expect(
    interleave([
      [0, 3, 6],
      [1, 4],
      [2, 5],
    ]),
  ).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(interleave([[], []])).toEqual([]);
});
