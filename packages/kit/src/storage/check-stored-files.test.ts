import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { sha256 } from "../canonical-json.ts";
import { checkStoredFiles } from "./check-stored-files.ts";
import { FolderStorage } from "./folder-storage.ts";

async function stored(contents: Readonly<Record<string, string>>): Promise<FolderStorage> {
  const folder = await mkdtemp(join(tmpdir(), "drydock-check-files-"));
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
  const storage = new FolderStorage(folder);
  for (const [name, content] of Object.entries(contents)) await storage.put(`models/weld/3/${name}`, content);
  return storage;
}

const expected = Object.entries({ "a.json": "{}", "b.safetensors": "weights" }).map(([name, content]) => ({
  name,
  sizeBytes: content.length,
  sha256: sha256(content),
}));

test("files that are as they should be give no problem, and every byte is read", async () => {
  const storage = await stored({ "a.json": "{}", "b.safetensors": "weights" });
  let bytesRead = 0;
  const problems = await checkStoredFiles(
    storage,
    "models/weld/3/",
    expected,
    "weld@3",
    (bytes) => (bytesRead = bytes),
  );
  expect(problems).toEqual([]);
  expect(bytesRead).toBe(9);
});

test("what is missing, cut, changed or added is named, a sentence each", async () => {
  const check = async (contents: Record<string, string>): Promise<string[]> =>
    (await checkStoredFiles(await stored(contents), "models/weld/3/", expected, "weld@3")).map(
      ({ message }) => message,
    );
  expect(await check({ "a.json": "{}" })).toEqual(["b.safetensors of weld@3 is missing from storage"]);
  expect(await check({ "a.json": "{}", "b.safetensors": "weight" })).toEqual([
    "b.safetensors of weld@3 is damaged: it has 6 bytes, and should have 7",
  ]);
  expect(await check({ "a.json": "{}", "b.safetensors": "weightz" })).toEqual([
    `b.safetensors of weld@3 is damaged: its SHA-256 is ${sha256("weightz").slice(0, 16)}…, and should be ${sha256("weights").slice(0, 16)}…`,
  ]);
  expect(await check({ "a.json": "{}", "b.safetensors": "weights", "chat_template.jinja": "other" })).toEqual([
    "chat_template.jinja lies beside the files of weld@3, but is none of them",
  ]);
});
