import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Of the engine's JSON, which spells a number as it was read; the compiler's library does not know it yet. */
const { rawJSON } = JSON as unknown as { readonly rawJSON: (text: string) => unknown };

/**
 * Writes a model folder's `config.json` into another folder, with some keys changed. Numbers keep their spelling: `transformers`
 * refuses the whole number 1 where its configuration wants 1.0, which JavaScript would write as 1.
 */
export async function copyConfig(from: string, to: string, changes: Readonly<Record<string, unknown>>): Promise<void> {
  const config = parseKeepingNumbers(await readFile(join(from, "config.json"), "utf8"));
  await writeFile(join(to, "config.json"), `${JSON.stringify({ ...config, ...changes }, null, 2)}\n`);
}

function parseKeepingNumbers(text: string): Record<string, unknown> {
  const spelled = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
    typeof value === "number" && context?.source !== undefined ? rawJSON(context.source) : value;
  return JSON.parse(text, spelled) as Record<string, unknown>;
}
