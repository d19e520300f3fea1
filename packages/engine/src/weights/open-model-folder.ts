import { existsSync, readFileSync } from "node:fs";
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import { openModel } from "../models/families.ts";
import type { Model } from "../models/model.ts";
import {
  quantizeOnRead,
  storedQuantization,
  type QuantizationSettings,
  type QuantizedWeights,
} from "../quantization/quantized-weights.ts";
import { checkWeights } from "./check-weights.ts";
import { alreadyQuantized, type ModelFolder } from "./model-folder.ts";
import { readWeights } from "./read-weights.ts";
import { partsIn, tokenizerHome, withPartConfigs } from "./folder-parts.ts";
import { readSafetensorsHeader, type SafetensorsHeader } from "./safetensors.ts";

export interface OpenFolderOptions {
  /** Quantizes the decoder's linear layers as they are read; the files stay as they are, as do layers that are stored in that format. */
  readonly quantize?: QuantizationSettings;
}

const IndexFile = z.object({ weight_map: z.record(z.string(), z.string()) });

/** @throws InvalidError when the folder is no usable model: says which file or tensor is missing or wrong */
export async function openModelFolder(directory: string, { quantize }: OpenFolderOptions = {}): Promise<ModelFolder> {
  const configFile = await withPartConfigs(directory, await readJson(directory, "config.json"));
  const model = openModel(configFile, { tokenId: (token) => specialTokenId(directory, token) });
  const headers = await readHeaders(directory);
  const files = { directory, model, configFile, headers };
  const stored = await storedQuantization(files);
  const isAsAsked = [...(stored?.layers.values() ?? [])].every(({ layout }) => layout.format === quantize?.format);
  if (stored && quantize && !isAsAsked) throw alreadyQuantized(directory, stored, quantize.format);
  const quantized =
    stored ??
    (quantize
      ? quantizeOnRead(files, quantize, async (name) => await readWeight({ ...files, quantized: null }, name))
      : null);
  const folder = { ...files, quantized, model: quantized ? withQuantized(model, quantized) : model };
  await checkWeights(folder);
  return folder;
}

function withQuantized(model: Model, { layers }: QuantizedWeights): Model {
  return { ...model, forward: (options) => model.forward({ quantized: layers, ...options }) };
}

async function readWeight(folder: ModelFolder, name: string): Promise<Float32Array> {
  return (await readWeights(folder, [name])).get(name) as Float32Array;
}

const TokenizerFile = z.looseObject({
  added_tokens: z.array(z.looseObject({ id: z.number(), content: z.string() })),
});

/** Reads the tokenizer only when a family asks: those files are large. */
function specialTokenId(directory: string, token: string): number | undefined {
  const path = join(tokenizerHome(directory), "tokenizer.json");
  if (!existsSync(path)) return undefined;
  const { added_tokens: tokens } = TokenizerFile.parse(JSON.parse(readFileSync(path, "utf8")));
  return tokens.find(({ content }) => content === token)?.id;
}

/** The headers of all weight files; tensors of a part's files have the part's name before their own. */
async function readHeaders(directory: string): Promise<SafetensorsHeader[]> {
  const parts = partsIn(directory);
  if (parts.length === 0) {
    const names = await weightFiles(directory);
    return await Promise.all(names.map(async (file) => await readSafetensorsHeader(join(directory, file))));
  }
  const headers = parts.map(async (part) => {
    const names = await weightFiles(join(directory, part));
    return await Promise.all(
      names.map(async (file) => withPrefix(`${part}.`, await readSafetensorsHeader(join(directory, part, file)))),
    );
  });
  return (await Promise.all(headers)).flat();
}

function withPrefix(prefix: string, header: SafetensorsHeader): SafetensorsHeader {
  const renamed = [...header.tensors].map(
    ([name, entry]) => [prefix + name, { ...entry, name: prefix + name }] as const,
  );
  return { ...header, tensors: new Map(renamed) };
}

async function weightFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  if (names.includes("model.safetensors.index.json")) {
    const index = IndexFile.safeParse(await readJson(directory, "model.safetensors.index.json"));
    if (!index.success)
      throw new InvalidError(
        "bad_model_folder",
        `${join(directory, "model.safetensors.index.json")} has no "weight_map" from tensor names to file names; fetch it again`,
      );
    const files = [...new Set(Object.values(index.data.weight_map))].sort();
    const absent = files.filter((file) => !names.includes(file));
    if (absent.length > 0)
      throw new InvalidError(
        "missing_shard",
        `folder ${directory} lacks ${absent.length} of the ${files.length} files that model.safetensors.index.json names: ` +
          `${absent.slice(0, 5).join(", ")}${absent.length > 5 ? ", …" : ""}; fetch them into the folder`,
      );
    return files;
  }
  if (names.includes("model.safetensors")) return ["model.safetensors"];
  throw new InvalidError(
    "no_weights",
    `folder ${directory} has neither model.safetensors nor model.safetensors.index.json`,
  );
}

async function readJson(directory: string, name: string): Promise<unknown> {
  const path = join(directory, name);
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new InvalidError("bad_model_folder", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}
