import { readdir, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openModelFolder, partsIn, readAdapter, readSafetensorsHeader, readWeights } from "@drydock/engine";

const singleName = "model.safetensors";
const shardName = "model-00001-of-00001.safetensors";
const indexName = "model.safetensors.index.json";

/** All files below a folder, relative, sorted. */
export async function filesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(directory.length + 1))
    .sort();
}

/**
 * Gives the weights of a whole model the names of design §8, with the index by which `transformers` finds them; in each
 * sub-folder where each part of the model has one.
 */
export async function nameAsShards(directory: string): Promise<void> {
  const parts = partsIn(directory);
  for (const part of parts.length > 0 ? parts : ["."]) await nameAsShard(join(directory, part));
}

async function nameAsShard(directory: string): Promise<void> {
  const header = await readSafetensorsHeader(join(directory, singleName));
  const { size } = await stat(join(directory, singleName));
  await rename(join(directory, singleName), join(directory, shardName));
  const weightMap = Object.fromEntries([...header.tensors.keys()].sort().map((name) => [name, shardName]));
  await writeFile(
    join(directory, indexName),
    `${JSON.stringify({ metadata: { total_size: size }, weight_map: weightMap }, null, 2)}\n`,
  );
}

/** The trained weights of a checkpoint's folder by name, float32. */
export async function readTrainedWeights(
  directory: string,
  mode: "lora" | "full",
  names: readonly string[],
): Promise<ReadonlyMap<string, Float32Array>> {
  if (mode === "lora") return (await readAdapter(directory)).tensors;
  // Files may have other names for weights than the model has.
  const folder = await openModelFolder(directory);
  const isStored = (name: string): boolean =>
    folder.model.storedNames(name).some((stored) => folder.headers.some(({ tensors }) => tensors.has(stored)));
  return await readWeights(folder, names.filter(isStored));
}
