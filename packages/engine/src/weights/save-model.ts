import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { isWeightsOfPart, writeByParts } from "./folder-parts.ts";
import { copyConfig } from "./copy-config.ts";
import type { ModelFolder } from "./model-folder.ts";
import { wholeModel } from "./stored-tensors.ts";

/**
 * Writes a whole model folder: the given weights in place of the stored ones, all others and every other file as they are.
 * @param tensors  by the model's names
 */
export async function saveWholeModel(
  folder: ModelFolder,
  directory: string,
  tensors: Parameters<typeof wholeModel>[1],
): Promise<void> {
  // Stored as float32 now, whatever the base said.
  await copyConfig(folder.directory, directory, { dtype: "float32" });
  for (const file of await readdir(folder.directory)) {
    if (/safetensors|^config\.json$|^drydock\.json$/.test(file)) continue;
    const source = join(folder.directory, file);
    await cp(source, join(directory, file), { recursive: true, filter: (path) => !isWeightsOfPart(source, path) });
  }
  await writeByParts(directory, await wholeModel(folder, tensors));
}
