import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import { ImportOptions } from "@drydock/spec";
import { importVersion } from "../src/version/import-version.ts";
import { readRecords } from "../src/version/read-records.ts";
import { picture, writeFiles } from "./pictures.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-guide-"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

/** The `index`-th code block below a heading of the guide. */
async function example(heading: string, index = 0): Promise<string> {
  const guide = await readFile(join(import.meta.dirname, "../../../docs/guides/data-formats.md"), "utf8");
  const section = guide.split(`\n## ${heading}`)[1]?.split("\n## ")[0] ?? "";
  return [...section.matchAll(/```\w+\n([\s\S]*?)```/g)][index]?.[1] ?? "";
}

const crack = {
  phrase: expect.stringContaining("crack"),
  boxes: [[0.19, 0.17, 0.48, 0.29].map((side) => expect.closeTo(side, 2))],
};

test.each<[string, number, string, unknown]>([
  ["OpenAI messages", 0, "rows.jsonl", "No, it is cracked."],
  ["LLaVA", 0, "rows.json", "No."],
  ["CSV", 0, "rows.csv", "No"],
  ["CSV", 1, "rows.csv", [crack]],
  ["CSV", 2, "rows.csv", [crack]],
  ["COCO", 0, "rows.json", [crack]],
  ["Vi JSONL", 0, "rows.jsonl", [crack]],
])("the guide's example of %s (%i) is imported", async (heading, index, file, expected) => {
  await writeFiles(join(root, "data"), {
    "weld-17.jpg": await picture(1, 640, 480, "jpeg"),
    "weld-18.jpg": await picture(2, 64, 48, "jpeg"),
    [file]: await example(heading, index),
  });
  expect(await firstAnswer()).toEqual(expected);
});

test("the guide's example of YOLO is imported", async () => {
  const line = /labels\/weld-17\.txt\s+(.*)/.exec(await example("YOLO"))?.[1] ?? "";
  await writeFiles(join(root, "data"), {
    "classes.txt": "crack\n",
    "images/weld-17.jpg": await picture(1, 640, 480, "jpeg"),
    "labels/weld-17.txt": line,
  });
  expect(await firstAnswer()).toEqual([crack]);
});

async function firstAnswer(): Promise<unknown> {
  const storage = new FolderStorage(join(root, "store"));
  const result = await importVersion({
    path: join(root, "data"),
    options: ImportOptions.parse({ validationShare: 0 }),
    storage,
    datasetId: "ds_1",
    version: 1,
  });
  expect(result.report.issues.filter(({ severity }) => severity === "error")).toEqual([]);
  const [record] = await Array.fromAsync(readRecords(storage, result.recordsKey));
  return record?.groundings ?? record?.messages.at(-1)?.content;
}
