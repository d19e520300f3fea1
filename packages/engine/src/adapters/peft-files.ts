import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import { wholeForward, type Model } from "../models/model.ts";
import { decoderPath } from "../models/parts/text-decoder.ts";
import type { LoraPlacement, ModuleAdapter } from "../models/variables.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import { readSafetensorsHeader, writeSafetensors, type WritableTensor } from "../weights/safetensors.ts";
import type { LoraOptions } from "./lora-options.ts";
import { leafOf, scaleOf, valueFor } from "./place-lora.ts";

/** An adapter in memory: what it adapts, and its tensors by the names of `Variables.trained`. */
export interface Adapter {
  readonly placement: LoraPlacement;
  /** Of modules without values of their own. */
  readonly rank: number;
  readonly alpha: number;
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

const keyPrefix = "base_model.model.";
const ends = { a: ".lora_A.weight", b: ".lora_B.weight", magnitude: ".lora_magnitude_vector" };

/** Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them. */
export async function writeAdapter(
  directory: string,
  options: LoraOptions,
  placement: LoraPlacement,
  baseModel: string,
  tensors: readonly WritableTensor[],
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const adapted = [...placement.modules.keys()];
  const config = {
    peft_type: "LORA",
    task_type: null,
    base_model_name_or_path: baseModel,
    r: options.rank,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    target_modules: targetsOf(options, adapted),
    exclude_modules: null,
    bias: options.bias ?? "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: options.initialization === "gaussian" ? "gaussian" : true,
    use_rslora: options.useRslora ?? false,
    use_dora: placement.usesDora,
    modules_to_save: options.modulesToSave?.length ? options.modulesToSave : null,
    rank_pattern: options.rankPattern ?? {},
    alpha_pattern: options.alphaPattern ?? {},
  };
  await writeFile(join(directory, "adapter_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeSafetensors(
    join(directory, "adapter_model.safetensors"),
    tensors.map((tensor) => ({ ...tensor, name: peftKey(tensor.name, placement) })),
  );
}

/** A bias of an adapted layer is a part of the layer that PEFT wraps. */
function peftKey(name: string, { modules }: LoraPlacement): string {
  const bias = /^(.*)\.bias$/.exec(name)?.[1];
  return keyPrefix + (bias !== undefined && modules.has(bias) ? `${bias}.base_layer.bias` : name);
}

/** One expression where it says the same: bare names would match the vision tower of some families too. */
function targetsOf(
  { targets, includeVision, exclude }: LoraOptions,
  adapted: readonly string[],
): string | readonly string[] {
  if (targets !== "all-linear" && typeof targets === "string" && !exclude?.length) return targets;
  const isOfText = adapted.every((path) => path.startsWith(`${decoderPath}.`));
  if (includeVision || exclude?.length || !isOfText) return adapted;
  return `.*language_model.*\\.(${[...new Set(adapted.map(leafOf))].join("|")})`;
}

const Pattern = z.record(z.string(), z.number()).nullish();
const AdapterConfig = z.looseObject({
  peft_type: z.literal("LORA"),
  r: z.int().min(1),
  lora_alpha: z.number().positive(),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().default(false),
  fan_in_fan_out: z.boolean().default(false),
  rank_pattern: Pattern,
  alpha_pattern: Pattern,
});

/**
 * Reads a PEFT LoRA adapter.
 *
 * @param model  whose names the adapter's modules get, whatever names its time had for them; absent = as they are
 * @throws InvalidError for a kind that is not understood: never ignored in silence
 */
export async function readAdapter(directory: string, model?: Model): Promise<Adapter> {
  const config = await readAdapterConfig(join(directory, "adapter_config.json"));
  const header = await readSafetensorsHeader(join(directory, "adapter_model.safetensors"));
  const stored = await readFloatTensors(header, header.tensors.keys(), { needsFinite: true });
  const current = model ? currentNames(model) : (path: string): string => path;
  const tensors = new Map<string, Float32Array>();
  const modules = new Map<string, ModuleAdapter>();
  const whole = new Set<string>();
  for (const [key, values] of stored) {
    const name = ownName(key, directory, current);
    tensors.set(name, values);
    if (name.endsWith(ends.a)) {
      const path = name.slice(0, -ends.a.length);
      const rank = header.tensors.get(key)?.shape[0] ?? config.r;
      const alpha = valueFor(path, config.alpha_pattern, `${directory}: alpha_pattern`) ?? config.lora_alpha;
      modules.set(path, { rank, scale: scaleOf(alpha, rank, config.use_rslora) });
    } else if (!name.endsWith(ends.b) && !name.endsWith(ends.magnitude)) whole.add(name);
  }
  if (modules.size === 0) throw new InvalidError("bad_adapter", `adapter ${directory} holds no LoRA matrix`);
  return {
    placement: { dropout: 0, modules, usesDora: config.use_dora, whole },
    rank: config.r,
    alpha: config.lora_alpha,
    tensors,
  };
}

/** Our name of a tensor of an adapter's file. */
function ownName(key: string, directory: string, current: (path: string) => string): string {
  const refuse = (what: string): InvalidError =>
    new InvalidError("bad_adapter", `adapter ${directory} holds ${key}, ${what}`);
  if (!key.startsWith(keyPrefix)) throw refuse(`whose name does not begin with ${keyPrefix} as PEFT writes it`);
  if (key.includes("lora_embedding_")) throw refuse("an adapter of an embedding, which Drydock does not run");
  const name = key
    .slice(keyPrefix.length)
    .replace(/\.base_layer\./, ".")
    .replace(/\.modules_to_save\./, ".")
    .replace(/\.lora_magnitude_vector\.weight$/, ends.magnitude);
  const [, path = "", end = ""] = /^(.*?)(\.lora_[AB]\.weight|\.lora_magnitude_vector|\.[^.]+)$/.exec(name) ?? [];
  if (name.includes("lora_") && !Object.values(ends).includes(end))
    throw refuse("which is no LoRA matrix of a linear layer");
  return current(path) + end;
}

/** Module paths of today by any name that files of the model may have for them. */
function currentNames(model: Model): (path: string) => string {
  const moduleOf = (name: string): string => name.slice(0, name.lastIndexOf("."));
  const known = new Map<string, string>();
  const names = [...wholeForward(model).variables.shapes.keys()];
  for (const name of names) for (const old of model.storedNames(name)) known.set(moduleOf(old), moduleOf(name));
  for (const name of names) known.set(moduleOf(name), moduleOf(name));
  return (path) => known.get(path) ?? path;
}

async function readAdapterConfig(path: string): Promise<z.infer<typeof AdapterConfig>> {
  let file: unknown;
  try {
    file = JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new InvalidError("bad_adapter", `${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  const parsed = AdapterConfig.safeParse(file);
  if (!parsed.success)
    throw new InvalidError(
      "bad_adapter",
      `${path}: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`,
    );
  if (parsed.data.fan_in_fan_out)
    throw new InvalidError("bad_adapter", `${path}: fan_in_fan_out is true, which no layer of these models is`);
  return parsed.data;
}
