import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { partsIn } from "@drydock/engine";
import { digestOf } from "@drydock/kit";
import { digestOfFile } from "../checkpoint/write-checkpoint.ts";

/** SHA-256 over the names and digests of a model folder's `config.json` and weight files: which base this really was. */
export async function baseDigestOf(directory: string): Promise<string> {
  const folders = ["", ...partsIn(directory)];
  const inFolders = await Promise.all(
    folders.map(async (part) =>
      (await readdir(join(directory, part))).map((name) => (part ? `${part}/${name}` : name)),
    ),
  );
  const names = inFolders
    .flat()
    .filter((name) => basename(name) === "config.json" || name.endsWith(".safetensors"))
    .sort();
  const files = [];
  for (const name of names) files.push({ name, sha256: await digestOfFile(join(directory, name)) });
  return digestOf(files);
}
