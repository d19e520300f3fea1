import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTinyModel } from "./model-folder.ts";

const shipped = join(import.meta.dirname, "..", "..", "models", "drydock-tiny-vl");
/** Any text with enough different words for a whole vocabulary: only the files beside the tokenizer are compared. */
const pangrams = Array.from({ length: 3000 }, (_, index) => `word${(index * 7919).toString(36)} ${index.toString(26)}`);
let made: string;

beforeAll(async () => {
  made = await mkdtemp(join(tmpdir(), "drydock-tiny-base-"));
  await createTinyModel(made, pangrams, 1);
});
afterAll(async () => await rm(made, { recursive: true, force: true }));

test.each([
  "config.json",
  "generation_config.json",
  "preprocessor_config.json",
  "tokenizer_config.json",
  "chat_template.jinja",
])("the shipped %s is the one that the recipe writes", async (file) => {
  expect(await readFile(join(shipped, file), "utf8")).toBe(await readFile(join(made, file), "utf8"));
});
