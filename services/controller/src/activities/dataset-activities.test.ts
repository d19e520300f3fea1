import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage, UnavailableError } from "@drydock/kit";
import { ImportOptions, type DatasetInput } from "@drydock/spec";
import { importOutcome } from "./dataset-activities.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-dataset-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const input: DatasetInput = {
  versionId: "dsv_1",
  dataset: "weld",
  datasetId: "ds_1",
  version: 1,
  uploadKey: "uploads/up_1/",
  options: ImportOptions.parse({ format: "openai-jsonl", task: "chat", validationShare: 0 }),
};

async function outcome(): Promise<Awaited<ReturnType<typeof importOutcome>>> {
  return await importOutcome({ storage, workDirectory: join(root, "work") }, input, new AbortController().signal);
}

async function upload(text: string): Promise<void> {
  await storage.put("uploads/up_1/rows/data.jsonl", text);
}

const row = (answer: string): string =>
  `${JSON.stringify({
    messages: [
      { role: "user", content: "?" },
      { role: "assistant", content: answer },
    ],
  })}\n`;

test("an upload becomes a version that is ready; importing it again answers the same, and no work files stay", async () => {
  await upload(row("yes") + row("no"));
  const first = await outcome();
  expect(first).toMatchObject({ state: "ready", reason: null, statistics: { rows: 2 }, report: { rowsAccepted: 2 } });
  expect(await outcome()).toEqual(first);
  expect(await readdir(join(root, "work"))).toEqual([]);
});

test("data that cannot be used is a failed version with the reason, not an error", async () => {
  await upload("{ not json\n");
  const failed = await outcome();
  expect(failed).toMatchObject({
    state: "failed",
    digest: null,
    report: { issues: [{ file: "rows/data.jsonl", row: 1 }] },
  });
  expect(failed.reason).toContain("none of 1 rows can be used");
});

test("an upload that is gone says what to do", async () => {
  expect(await outcome()).toMatchObject({
    state: "failed",
    reason: "the upload holds no files any more: upload the data again",
  });
});

test("storage that is away is no fault of the data: the error is passed on, to be tried again", async () => {
  await upload(row("yes"));
  storage.getFile = async () => await Promise.reject(new UnavailableError("storage_unavailable", "503"));
  await expect(outcome()).rejects.toBeInstanceOf(UnavailableError);
});
