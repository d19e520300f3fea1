import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collate } from "../batch/collate.ts";
import type { ModelBatch } from "../batch/model-batch.ts";
import { loadModel } from "../models/load-model.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { ManyAdapters, type AdapterName } from "./many-adapters.ts";
import { readParityCase, type ParityCase } from "../../../../test/golden/parity/parity-case.ts";

const golden = resolve(import.meta.dirname, "../../../../test/golden");
const directory = join(golden, "parity/qwen3-vl/untied/model");
const folderOf = (kind: string): string => join(golden, "adapters", kind, "adapter");
/** Of other ranks, scales and modules. */
const adapters = { all: folderOf("rslora"), last: folderOf("regular-expression"), ranks: folderOf("patterns") };
const generation = { maxNewTokens: 12, stopTokenIds: [] };

let rows: ParityCase["rows"];
let batch: ModelBatch;
let many: ManyAdapters;
beforeAll(async () => {
  const { model } = await openModelFolder(directory);
  const read = await readParityCase(join(golden, "parity/qwen3-vl/untied"), "batch", model);
  rows = [...read.rows, read.rows[0] as ParityCase["rows"][0]];
  batch = collate(rows, model);
  many = await ManyAdapters.open({ directory, adapters, threads: 2 });
});
afterAll(async () => await many.close());

/** Logits of a batch with one adapter for all. */
async function alone(name: AdapterName): Promise<{ logits: Float32Array; answers: number[][] }> {
  const adapterDirectory = name === null ? {} : { adapterDirectory: adapters[name as keyof typeof adapters] };
  const { generator } = await loadModel({ directory, threads: 2, ...adapterDirectory });
  const result = { logits: await generator.logits(batch), answers: await generator.answers(batch, generation) };
  await generator.close();
  return result;
}

test("each row of a batch has the logits and the answer that its adapter alone gives it", async () => {
  const names = ["ranks", null, "all", "last"] as const;
  const [logits, answers] = await Promise.all([many.logits(batch, names), many.answers(batch, generation, names)]);
  const size = logits.length / batch.batchSize;
  for (const [row, name] of names.entries()) {
    const expected = await alone(name);
    const own = logits.subarray(row * size, (row + 1) * size);
    const theirs = expected.logits.subarray(row * size, (row + 1) * size);
    const used = ((rows[row]?.inputIds.length ?? 0) * size) / batch.sequenceLength;
    const worst = own
      .subarray(0, used)
      .reduce((max, value, at) => Math.max(max, Math.abs(value - (theirs[at] as number))), 0);
    expect(worst, String(name)).toBeLessThan(1e-4);
    expect(answers[row], String(name)).toEqual(expected.answers[row]);
  }
});

test("an adapter that nobody knows is told with those that there are", async () => {
  await expect(many.logits(batch, ["all", "none", "all", "all"])).rejects.toThrow(
    'no adapter is called "none"; there are all, last, ranks',
  );
});

test("an adapter that changes the base itself is refused beside others", async () => {
  const open = ManyAdapters.open({ directory, adapters: { dora: folderOf("dora") }, threads: 1 });
  await expect(open).rejects.toThrow("adapter dora uses DoRA, which rows cannot do one by one");
});
