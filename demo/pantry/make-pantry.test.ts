import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { makePantry } from "./make-pantry.ts";

const root = mkdtempSync(join(tmpdir(), "drydock-pantry-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const options = { trainingScenes: 12, validationScenes: 4, seed: 3 };

function digestOf(folder: string): string {
  const hash = createHash("sha256");
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
  for (const file of files) hash.update(file.slice(folder.length)).update(readFileSync(file));
  return hash.digest("hex");
}

test("the same options give the same files, and each scene has a name and a box", async () => {
  const [first, second] = await Promise.all(
    ["a", "b"].map(async (name) => await makePantry(join(root, name), options)),
  );
  expect(digestOf(first!.boxesDirectory)).toBe(digestOf(second!.boxesDirectory));
  expect(digestOf(first!.namesDirectory)).toBe(digestOf(second!.namesDirectory));
  expect(first).toMatchObject({ trainingRows: 24, validationRows: 8 });
  const rows = readFileSync(join(first!.namesDirectory, "train", "rows.jsonl"), "utf8")
    .trim()
    .split("\n");
  expect(rows.map((row) => (JSON.parse(row) as { contents: { type: string } }).contents.type)).toEqual(
    Array.from({ length: 12 }, () => ["Vqa", "PhraseGrounding"]).flat(),
  );
});
