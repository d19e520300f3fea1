import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { digestOf } from "@drydock/kit";
import { digestOfFile } from "../checkpoint/write-checkpoint.ts";

/** SHA-256 over the names and digests of a model folder's `config.json` and weight files: which base this really was. */
export async function baseDigestOf(directory: string): Promise<string> {
  const names = (await readdir(directory))
    .filter((name) => name === "config.json" || name.endsWith(".safetensors"))
    .sort();
  const files = [];
  for (const name of names) files.push({ name, sha256: await digestOfFile(join(directory, name)) });
  return digestOf(files);
}
