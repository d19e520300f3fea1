/*
 * Folders with a sub-folder a part of the model, each with its own config.json and weights, as NVILA is published: the tokenizer
 * lies with the decoder, the preprocessor's file with the tower.
 */
import { existsSync } from "node:fs";
import { cp, mkdir, readFile, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { writeSafetensors, type WritableTensor } from "./safetensors.ts";

const parts = ["llm", "vision_tower", "mm_projector"] as const;

/** The parts that a folder has sub-folders for; none where its weights lie in the folder itself. */
export function partsIn(directory: string): readonly string[] {
  return existsSync(join(directory, "llm", "config.json")) ? parts : [];
}

/** Where the tokenizer's files lie. */
export function tokenizerHome(directory: string): string {
  return homeOf(directory, "tokenizer.json", "llm");
}

/** Where `preprocessor_config.json` lies. */
export function preprocessorHome(directory: string): string {
  return homeOf(directory, "preprocessor_config.json", "vision_tower");
}

function homeOf(directory: string, file: string, part: string): string {
  const sub = join(directory, part);
  return !existsSync(join(directory, file)) && existsSync(join(sub, file)) ? sub : directory;
}

/**
 * A folder's configuration with those of its parts under `<part>_cfg`, whatever it says of them itself: the parts' own are what
 * their weights were saved with.
 * @throws InvalidError naming the part's file that is missing or wrong
 */
export async function withPartConfigs(directory: string, configFile: unknown): Promise<unknown> {
  const found = partsIn(directory);
  if (found.length === 0 || typeof configFile !== "object") return configFile;
  const configs = found.map(async (part) => [`${part}_cfg`, await readPartConfig(directory, part)] as const);
  return { ...configFile, ...Object.fromEntries(await Promise.all(configs)) };
}

async function readPartConfig(directory: string, part: string): Promise<unknown> {
  const path = join(directory, part, "config.json");
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** Whether a file is one of weights in a part's sub-folder. */
export function isWeightsOfPart(subfolder: string, path: string): boolean {
  return parts.some((part) => part === basename(subfolder)) && basename(path).includes("safetensors");
}

/**
 * Writes a model's tensors to `model.safetensors`, or to one such file a part where the folder has sub-folders for them.
 * @param tensors  by their stored names, those of parts with the part's name before their own
 */
export async function writeByParts(directory: string, tensors: readonly WritableTensor[]): Promise<void> {
  const found = partsIn(directory);
  if (found.length === 0) return await writeSafetensors(join(directory, "model.safetensors"), tensors);
  for (const part of found) {
    await mkdir(join(directory, part), { recursive: true });
    const own = tensors.filter(({ name }) => name.startsWith(`${part}.`));
    const inFile = own.map((tensor) => ({ ...tensor, name: tensor.name.slice(part.length + 1) }));
    await writeSafetensors(join(directory, part, "model.safetensors"), inFile);
  }
}

/**
 * Copies what a model folder holds beside weights and config.json. What lies in sub-folders of parts comes to lie in the folder
 * itself, as the files of one that has all its weights there.
 */
export async function copyOtherFiles(directory: string, out: string): Promise<void> {
  const found = partsIn(directory);
  const isOther = (name: string): boolean => !/\.(safetensors|safetensors\.index\.json|bin)$|^config\.json$/.test(name);
  for (const folder of ["", ...found])
    for (const name of await readdir(join(directory, folder)))
      if (isOther(name) && !(folder === "" && found.includes(name)))
        await cp(join(directory, folder, name), join(out, name), { recursive: true });
}

/** What `config.json` must say where a model in parts is written without sub-folders: the configurations of its parts. */
export function configsOfParts(directory: string, configFile: unknown): Record<string, unknown> {
  const known = configFile as Record<string, unknown>;
  return Object.fromEntries(partsIn(directory).map((part) => [`${part}_cfg`, known[`${part}_cfg`]]));
}
