import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import type { DataRecord, RecordImage } from "@drydock/spec";
import { readRecords } from "./read-records.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-rows-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const image: RecordImage = {
  key: "datasets/d/images/ab.png",
  sha256: "ab",
  fileName: "weld.png",
  width: 2,
  height: 2,
  sizeBytes: 5,
};
const record: DataRecord = {
  rowId: "r1",
  split: "train",
  task: "vqa",
  source: { file: "a.jsonl", row: 1 },
  images: [image],
  messages: [{ role: "user", content: "<image>?" }],
};

test("records are read in order, blank lines skipped", async () => {
  await storage.put("records.jsonl", `${JSON.stringify(record)}\n\n${JSON.stringify({ ...record, rowId: "r2" })}\n`);
  expect((await readRecords(storage, "records.jsonl")).map(({ rowId }) => rowId)).toEqual(["r1", "r2"]);
});

test.each([
  ["broken JSON", '{"rowId":', "records.jsonl, line 2: broken JSON"],
  ["a row that is no record", '{"rowId":"x"}', "records.jsonl, line 2: split: Invalid option"],
])("%s is bad data with its line", async (_case, line, message) => {
  await storage.put("records.jsonl", `${JSON.stringify(record)}\n${line}\n`);
  await expect(readRecords(storage, "records.jsonl")).rejects.toMatchObject({
    code: "bad_data",
    message: expect.stringContaining(message),
  });
});

test("records that are gone are bad data", async () => {
  await expect(readRecords(storage, "records.jsonl")).rejects.toThrow(
    "the data set's records records.jsonl are not in storage",
  );
});
