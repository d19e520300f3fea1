import { InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import { reachedFrom } from "../graph/gradient.ts";
import type { WeightLocation } from "../graph/onnx/encoder.ts";
import type { Node } from "../graph/ops.ts";
import { topologicalOrder } from "../graph/topological-order.ts";
import { wholeForward, type Model } from "../models/model.ts";
import { decoderPath } from "../models/parts/text-decoder.ts";
import type { LinearSizes, QuantizedLinear } from "../models/variables.ts";
import type { FeedTensor } from "../runtime/feeds.ts";
import { toShared } from "../runtime/shared-floats.ts";
import { readFloatTensors } from "../weights/read-floats.ts";
import { readTensorBytes, type SafetensorsHeader, type TensorEntry } from "../weights/safetensors.ts";
import { unnestScales } from "./double-quantization.ts";
import {
  checkBlockSize,
  checkLayout,
  codeBooks,
  isTableFormat,
  packedShape,
  parseFormat,
  scalesShape,
  type QuantizedFormat,
  type QuantizedLayout,
} from "./formats.ts";
import { quantizeWeight, type PackedWeight } from "./quantize-weight.ts";

/** How the linear layers of a model are to be stored. */
export interface QuantizationSettings {
  readonly format: QuantizedFormat;
  readonly blockSize: number;
}

/** A folder's files as far as they are known before its weights are: what `openModelFolder` has so far. */
export interface FolderFiles {
  readonly directory: string;
  readonly model: Model;
  readonly configFile: unknown;
  readonly headers: readonly SafetensorsHeader[];
}

/** One part of one layer: where it lies, when it lies there as the operators read it, and how to read it. */
interface Part {
  readonly shape: readonly number[];
  readonly location: { readonly header: SafetensorsHeader; readonly entry: TensorEntry } | null;
  readonly read: () => Promise<FeedTensor["data"]>;
}

/**
 * The linear layers of a model folder whose weights are in few bits: stored so, or quantized when they are first read. Their
 * parts are weights of the graph by the names `<path>.weight.packed`, `.scales` and `.input_scales`.
 */
export class QuantizedWeights {
  readonly layers: ReadonlyMap<string, QuantizedLinear>;
  readonly #parts: ReadonlyMap<string, Part>;
  readonly #known = new Map<string, Promise<FeedTensor>>();

  constructor(layers: ReadonlyMap<string, QuantizedLinear>, parts: ReadonlyMap<string, Part>) {
    this.layers = layers;
    this.#parts = parts;
  }

  has(name: string): boolean {
    return this.#parts.has(name);
  }

  /** In shared memory, read once. */
  async get(name: string): Promise<FeedTensor> {
    const part = this.#parts.get(name);
    if (!part) throw new Error(`${name} is no part of a quantized layer`);
    let known = this.#known.get(name);
    if (!known) this.#known.set(name, (known = part.read().then((data) => ({ data, shape: part.shape }))));
    return await known;
  }

  /** Where a part lies in a file as it is; null for what is computed when it is read. */
  location(name: string): { readonly header: SafetensorsHeader; readonly entry: TensorEntry } | null {
    return this.#parts.get(name)?.location ?? null;
  }
}

/**
 * Names under which files may hold a quantized weight, the usual one first. One that is otherwise stored as a part of a larger
 * tensor stands by itself, under its own name: blocks and scales do not split.
 */
export function quantizedNames(model: Model, name: string): readonly [string, ...string[]] {
  const [first = name, ...others] = model.storedPart?.(name) ? [name] : model.storedNames(name);
  return [first, ...others];
}

/**
 * The linear layers that are quantized where nothing else is said: those of the decoder, by name or because they work on
 * tokens; image tower, bridge and head are left out.
 *
 * @throws InvalidError `nothing_to_quantize` when there is none
 */
export function decoderLinears(model: Model): ReadonlyMap<string, LinearSizes> {
  const { linears, linearInputs } = wholeForward(model).variables;
  const order = topologicalOrder([...linearInputs.values()]);
  const tokens = order.filter(({ op, attributes }) => op === "Input" && attributes["name"] === "ids");
  const reached = reachedFrom(tokens, order);
  const chosen = [...linears].filter(
    ([path]) => path.startsWith(decoderPath) || reached.has(linearInputs.get(path) as Node),
  );
  if (chosen.length > 0) return new Map(chosen);
  throw new InvalidError("nothing_to_quantize", `the decoder of a ${model.type} has no linear layer that is quantized`);
}

/**
 * Layers that are quantized when they are read, from the weights of a folder as they are.
 *
 * @param readWeight  a weight as float32, by name
 * @throws InvalidError when the block size does not fit a layer
 */
export function quantizeOnRead(
  { model }: FolderFiles,
  settings: QuantizationSettings,
  readWeight: (name: string) => Promise<Float32Array>,
): QuantizedWeights {
  checkBlockSize(settings.blockSize);
  const layers = new Map<string, QuantizedLinear>();
  const parts = new Map<string, Part>();
  for (const [path, { in: width, out }] of decoderLinears(model)) {
    const layout: QuantizedLayout = { ...settings, in: width, out };
    checkLayout(path, layout);
    layers.set(path, { layout, hasInputScales: false });
    let weight: Promise<PackedWeight> | null = null;
    const read = async (): Promise<PackedWeight> =>
      await (weight ??= readWeight(`${path}.weight`).then((values) => quantizeWeight(values, layout)));
    parts.set(`${path}.weight.packed`, {
      shape: packedShape(layout),
      location: null,
      read: async () => (await read()).packed,
    });
    parts.set(`${path}.weight.scales`, {
      shape: scalesShape(layout),
      location: null,
      read: async () => (await read()).scales,
    });
  }
  return new QuantizedWeights(layers, parts);
}

const QuantizationConfig = z.looseObject({
  quant_method: z.string().default("unnamed"),
  load_in_8bit: z.boolean().optional(),
  load_in_4bit: z.boolean().optional(),
});
const OwnConfig = z.object({ format: z.string(), block_size: z.number() });

/** What `quantization_config` of config.json says; null when there is none. */
export function quantizationConfigOf(configFile: unknown): z.infer<typeof QuantizationConfig> | null {
  const parsed = z.object({ quantization_config: QuantizationConfig }).safeParse(configFile);
  return parsed.success ? parsed.data.quantization_config : null;
}

/**
 * Layers that a folder stores in few bits: those of bitsandbytes (4 bits) and Drydock's own.
 *
 * @returns null when config.json says nothing of quantization
 * @throws InvalidError `unknown_quantization` for what is not read, `bad_quantized_weight` naming the tensor that is wrong
 */
export async function storedQuantization(files: FolderFiles): Promise<QuantizedWeights | null> {
  const config = quantizationConfigOf(files.configFile);
  if (!config) return null;
  const own = config.quant_method === "drydock" ? ownSettings(files, config) : null;
  if (!own && !(config.quant_method === "bitsandbytes" && config.load_in_4bit === true))
    throw new InvalidError(
      "unknown_quantization",
      `config.json of ${files.directory} says quantization "${config.quant_method}${config.load_in_8bit === true ? ", load_in_8bit" : ""}", which Drydock does not read; it reads bitsandbytes of 4 bits (nf4, fp4) and its own nf4, fp4, int4 and int8: take the model's own weights and "drydock model quantize"`,
    );
  const finder = new TensorFinder(files);
  const layers = new Map<string, QuantizedLinear>();
  const parts = new Map<string, Part>();
  for (const [path, sizes] of wholeForward(files.model).variables.linears) {
    const layer = (await bitsAndBytesLayer(finder, path, sizes)) ?? (own && ownLayer(finder, path, sizes, own));
    if (!layer) continue;
    const inputScales = finder.find(`${path}.weight`, ".input_scales");
    if (inputScales) layer.parts.set("input_scales", finder.floats(inputScales, [sizes.in]));
    layers.set(path, { layout: layer.layout, hasInputScales: inputScales !== null });
    for (const [name, part] of layer.parts) parts.set(`${path}.weight.${name}`, part);
  }
  finder.refuseUnread();
  if (layers.size === 0)
    throw new InvalidError(
      "bad_quantized_weight",
      `config.json of ${files.directory} says that its weights are quantized, but none of its linear layers is`,
    );
  return new QuantizedWeights(layers, parts);
}

interface FoundLayer {
  readonly layout: QuantizedLayout;
  readonly parts: Map<string, Part>;
}

function ownSettings({ directory }: FolderFiles, config: unknown): QuantizationSettings {
  const parsed = OwnConfig.safeParse(config);
  if (!parsed.success)
    throw new InvalidError(
      "unknown_quantization",
      `config.json of ${directory}: quantization_config.${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`,
    );
  const format = parseFormat(parsed.data.format);
  checkBlockSize(parsed.data.block_size);
  return { format, blockSize: parsed.data.block_size };
}

function ownLayer(
  finder: TensorFinder,
  path: string,
  sizes: LinearSizes,
  settings: QuantizationSettings,
): FoundLayer | null {
  const scales = finder.find(`${path}.weight`, ".scales");
  if (!scales || isTableFormat(settings.format)) return null;
  const layout: QuantizedLayout = { ...settings, in: sizes.in, out: sizes.out };
  return {
    layout,
    parts: new Map([
      ["packed", finder.bytes(finder.need(`${path}.weight`, ""), packedShape(layout))],
      ["scales", finder.floats(scales, scalesShape(layout))],
    ]),
  };
}

const QuantState = z.object({
  quant_type: z.enum(["nf4", "fp4"]),
  blocksize: z.number(),
  shape: z.array(z.number()),
  nested_blocksize: z.number().optional(),
  nested_offset: z.number().optional(),
});

/** A layer as `bitsandbytes` saves it (`QuantState.as_dict`, bitsandbytes 0.50): the state is JSON in a tensor of bytes. */
async function bitsAndBytesLayer(finder: TensorFinder, path: string, sizes: LinearSizes): Promise<FoundLayer | null> {
  const name = `${path}.weight`;
  const found =
    finder.find(name, ".quant_state.bitsandbytes__nf4") ?? finder.find(name, ".quant_state.bitsandbytes__fp4");
  if (!found) return null;
  const state = await readState(finder, found);
  if (state.shape.join() !== [sizes.out, sizes.in].join())
    throw finder.bad(
      found,
      `it says shape [${state.shape.join(", ")}], but config.json asks for [${sizes.out}, ${sizes.in}]`,
    );
  checkBlockSize(state.blocksize);
  const layout: QuantizedLayout = {
    format: state.quant_type,
    blockSize: state.blocksize,
    in: sizes.in,
    out: sizes.out,
  };
  await checkTable(finder, finder.need(name, ".quant_map"), state.quant_type);
  const absmax = finder.need(name, ".absmax");
  const { nested_blocksize: nestedBlockSize, nested_offset: offset } = state;
  const scales =
    nestedBlockSize === undefined || offset === undefined
      ? finder.floats(absmax, scalesShape(layout))
      : nestedScales(finder, name, absmax, scalesShape(layout), { blockSize: nestedBlockSize, offset });
  return {
    layout,
    parts: new Map([
      ["packed", finder.bytes(finder.need(name, ""), packedShape(layout))],
      ["scales", scales],
    ]),
  };
}

async function readState(finder: TensorFinder, found: FoundEntry): Promise<z.infer<typeof QuantState>> {
  const text = new TextDecoder().decode(await readTensorBytes(found.header, found.entry.name));
  try {
    return QuantState.parse(JSON.parse(text));
  } catch (error) {
    throw finder.bad(found, `it holds no state of bitsandbytes (${messageOf(error).split("\n")[0]})`);
  }
}

async function checkTable(finder: TensorFinder, found: FoundEntry, format: "nf4" | "fp4"): Promise<void> {
  const table = await readFloats(found);
  if (table.length === 16 && codeBooks[format].every((value, code) => Math.abs(value - (table[code] as number)) < 1e-6))
    return;
  throw finder.bad(found, `its 16 values are not those of ${format}`);
}

function nestedScales(
  finder: TensorFinder,
  name: string,
  absmax: FoundEntry,
  shape: readonly number[],
  nested: { readonly blockSize: number; readonly offset: number },
): Part {
  const codes = finder.bytes(absmax, shape);
  const blocks = Math.ceil((shape[0] as number) / nested.blockSize);
  const scales = finder.floats(finder.need(name, ".nested_absmax"), [blocks]);
  const table = finder.floats(finder.need(name, ".nested_quant_map"), [256]);
  return {
    shape,
    location: null,
    read: async () =>
      unnestScales({
        ...nested,
        codes: (await codes.read()) as Uint8Array,
        scales: (await scales.read()) as Float32Array,
        table: (await table.read()) as Float32Array,
      }),
  };
}

interface FoundEntry {
  readonly header: SafetensorsHeader;
  readonly entry: TensorEntry;
}

async function readFloats({ header, entry: { name } }: FoundEntry): Promise<Float32Array> {
  return toShared((await readFloatTensors(header, [name])).get(name) as Float32Array);
}

/** Finds tensors that belong to a weight, checks their sizes, and knows in the end which were never asked for. */
class TensorFinder {
  readonly #files: FolderFiles;
  readonly #asked = new Set<TensorEntry>();

  constructor(files: FolderFiles) {
    this.#files = files;
  }

  find(weightName: string, suffix: string): FoundEntry | null {
    for (const storedName of quantizedNames(this.#files.model, weightName))
      for (const header of this.#files.headers) {
        const entry = header.tensors.get(`${storedName}${suffix}`);
        if (!entry) continue;
        this.#asked.add(entry);
        return { header, entry };
      }
    return null;
  }

  need(weightName: string, suffix: string): FoundEntry {
    const found = this.find(weightName, suffix);
    if (found) return found;
    throw new InvalidError(
      "bad_quantized_weight",
      `folder ${this.#files.directory} lacks ${weightName}${suffix}, without which the quantized ${weightName} cannot be read`,
    );
  }

  bytes(found: FoundEntry, shape: readonly number[]): Part {
    this.#check(found, "U8", shape);
    const read = async (): Promise<Uint8Array> =>
      await readTensorBytes(found.header, found.entry.name, new SharedArrayBuffer(found.entry.sizeBytes));
    return { shape, location: found, read };
  }

  floats(found: FoundEntry, shape: readonly number[]): Part {
    this.#check(found, "F32", shape);
    return { shape, location: found, read: async () => await readFloats(found) };
  }

  bad({ entry }: FoundEntry, what: string): InvalidError {
    return new InvalidError(
      "bad_quantized_weight",
      `tensor ${entry.name} of ${this.#files.directory} cannot be used: ${what}`,
    );
  }

  /** @throws InvalidError for quantized tensors that belong to no linear layer */
  refuseUnread(): void {
    for (const { tensors } of this.#files.headers)
      for (const entry of tensors.values())
        if (/\.quant_state\.bitsandbytes__|\.weight\.scales$/.test(entry.name) && !this.#asked.has(entry))
          throw new InvalidError(
            "bad_quantized_weight",
            `tensor ${entry.name} of ${this.#files.directory} belongs to a quantized weight that is no linear layer of the model; embeddings and the head must have their own type`,
          );
  }

  /** A flat tensor of the right length is the same bytes, whatever axes of size 1 the file gives it. */
  #check(found: FoundEntry, type: TensorEntry["type"], shape: readonly number[]): void {
    const { entry } = found;
    const sizes = entry.shape.filter((size) => size !== 1).join();
    if (entry.type === type && sizes === shape.filter((size) => size !== 1).join()) return;
    throw this.bad(
      found,
      `it is ${entry.type} [${entry.shape.join(", ")}], and its layer needs ${type} [${shape.join(", ")}]`,
    );
  }
}

/** @returns where an operator finds a part in its file, relative to the folder */
export function externalLocation(
  { directory }: Pick<FolderFiles, "directory">,
  { header, entry }: FoundEntry,
): WeightLocation {
  return {
    file: header.path.slice(directory.length).replace(/^\/+/, ""),
    offset: entry.offset,
    sizeBytes: entry.sizeBytes,
    dtype: entry.type === "U8" ? "uint8" : "float32",
  };
}
