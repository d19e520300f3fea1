/** Writes the golden tokenizer that our own trainer learns; `make_text.py` then asks the Python packages what they make of it. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { trainByteLevelBpe } from "@drydock/engine";
import { corpus, specialTokens, vocabularySize } from "./text/corpus.ts";

const folder = join(import.meta.dirname, "text", "model");
await writeFile(
  join(folder, "tokenizer.json"),
  `${JSON.stringify(trainByteLevelBpe(corpus, vocabularySize, specialTokens))}\n`,
);
