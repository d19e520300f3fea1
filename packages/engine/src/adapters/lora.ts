import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import type { LoraPlacement } from "../models/variables.ts";
import { wholeForward, type Model } from "../models/model.ts";
import { decoderPath } from "../models/parts/text-decoder.ts";
import { SeededRandom } from "../training/random.ts";
import { readSafetensorsHeader, writeSafetensors, type WritableTensor } from "../weights/safetensors.ts";
import { readFloatTensors } from "../weights/read-floats.ts";

/** What a user chooses of LoRA. */
export interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  readonly dropout: number;
  /** `all-linear` or leaf names (`q_proj`, …); always of the language model. */
  readonly targets: "all-linear" | readonly string[];
}

/** An adapter in memory: options and tensors by name (`<module>.lora_A.weight`). */
export interface Adapter {
  readonly placement: LoraPlacement;
  readonly rank: number;
  readonly alpha: number;
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

const keyPrefix = "base_model.model.";

/** Module paths that carry an adapter. @throws InvalidError for a target that no layer has, or a model that takes none */
export function placeLora(model: Model, options: LoraOptions): LoraPlacement {
  if (model.loraRefusal !== null) throw new InvalidError("no_lora", model.loraRefusal);
  const paths = [...wholeForward(model).variables.linears.keys()].filter((path) => path.startsWith(decoderPath));
  const leaves = [...new Set(paths.map(leafOf))];
  const chosen = options.targets === "all-linear" ? leaves : options.targets;
  const unknown = chosen.find((leaf) => !leaves.includes(leaf));
  if (unknown !== undefined)
    throw new InvalidError(
      "unknown_lora_target",
      `training.lora.targets: the language model has no linear layer "${unknown}"; it has ${leaves.join(", ")}`,
    );
  const modules = new Set(paths.filter((path) => chosen.includes(leafOf(path))));
  return { rank: options.rank, scale: options.alpha / options.rank, dropout: options.dropout, modules };
}

function leafOf(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/** First values of an adapter tensor: A uniform in ±1/√in (Kaiming with a = √5, as PEFT), B zero. */
export function initialLoraTensor(name: string, shape: readonly number[], seed: number): Float32Array {
  const [rows = 0, columns = 0] = shape;
  const values = new Float32Array(rows * columns);
  if (name.endsWith(".lora_B.weight")) return values;
  const random = new SeededRandom(seed, name);
  const bound = 1 / Math.sqrt(columns);
  for (let index = 0; index < values.length; index++) values[index] = (random.uniform() * 2 - 1) * bound;
  return values;
}

/** Writes `adapter_config.json` and `adapter_model.safetensors` as PEFT reads them. */
export async function writeAdapter(
  directory: string,
  options: LoraOptions,
  baseModel: string,
  tensors: readonly WritableTensor[],
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const adapted = tensors.map(({ name }) => leafOf(name.replace(/\.lora_[AB]\.weight$/, "")));
  const config = {
    peft_type: "LORA",
    task_type: null,
    base_model_name_or_path: baseModel,
    r: options.rank,
    lora_alpha: options.alpha,
    lora_dropout: options.dropout,
    // One expression, because bare leaf names would match the vision tower of some families too.
    target_modules: `.*language_model.*\\.(${[...new Set(adapted)].join("|")})`,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    use_rslora: false,
    use_dora: false,
    modules_to_save: null,
    rank_pattern: {},
    alpha_pattern: {},
  };
  await writeFile(join(directory, "adapter_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeSafetensors(
    join(directory, "adapter_model.safetensors"),
    tensors.map((tensor) => ({ ...tensor, name: `${keyPrefix}${tensor.name}` })),
  );
}

const AdapterConfig = z.object({
  peft_type: z.literal("LORA"),
  r: z.int().min(1),
  lora_alpha: z.number().positive(),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().default(false),
  rank_pattern: z.record(z.string(), z.number()).nullish(),
  alpha_pattern: z.record(z.string(), z.number()).nullish(),
});

/** Reads a PEFT LoRA adapter. @throws InvalidError for a kind that is not understood: never ignored in silence */
export async function readAdapter(directory: string): Promise<Adapter> {
  const config = await readAdapterConfig(join(directory, "adapter_config.json"));
  const header = await readSafetensorsHeader(join(directory, "adapter_model.safetensors"));
  const stored = await readFloatTensors(header, header.tensors.keys(), { needsFinite: true });
  const tensors = new Map<string, Float32Array>();
  const modules = new Set<string>();
  for (const [key, values] of stored) {
    const match = /^base_model\.model\.(.+)\.lora_[AB]\.weight$/.exec(key);
    if (!match?.[1])
      throw new InvalidError(
        "bad_adapter",
        `adapter ${directory} holds ${key}, which is no LoRA matrix of a linear layer`,
      );
    modules.add(match[1]);
    tensors.set(key.slice(keyPrefix.length), values);
  }
  const scale = config.use_rslora ? config.lora_alpha / Math.sqrt(config.r) : config.lora_alpha / config.r;
  return {
    placement: { rank: config.r, scale, dropout: 0, modules },
    rank: config.r,
    alpha: config.lora_alpha,
    tensors,
  };
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
  const config = parsed.data;
  const unsupported = config.use_dora
    ? "use_dora"
    : Object.keys(config.rank_pattern ?? {}).length > 0
      ? "rank_pattern"
      : Object.keys(config.alpha_pattern ?? {}).length > 0
        ? "alpha_pattern"
        : null;
  if (unsupported)
    throw new InvalidError(
      "bad_adapter",
      `${path}: ${unsupported} is not supported; train or export the adapter without it`,
    );
  return config;
}
