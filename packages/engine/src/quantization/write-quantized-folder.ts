import { mkdir, readdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ConflictError, InvalidError } from "@drydock/kit";
import { wholeForward } from "../models/model.ts";
import { copyConfig } from "../weights/copy-config.ts";
import { configsOfParts, copyOtherFiles } from "../weights/folder-parts.ts";
import { findTensor } from "../weights/find-tensor.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { readWeights } from "../weights/read-weights.ts";
import { refuseQuantized, type ModelFolder } from "../weights/model-folder.ts";
import { bytesPerElement, readTensorBytes, writeTensorsInTurn, type TensorSource } from "../weights/safetensors.ts";
import { balanceInputs, undoScales, type InputPower } from "./activation-scales.ts";
import { nestScales, unnestScales, type NestedScales } from "./double-quantization.ts";
import {
  checkBlockSize,
  checkLayout,
  codeBooks,
  isTableFormat,
  packedShape,
  scalesShape,
  type QuantizedLayout,
} from "./formats.ts";
import { dequantizeWeight, quantizeWeight, type PackedWeight, type RangeOptions } from "./quantize-weight.ts";
import { decoderLinears, type QuantizationSettings } from "./quantized-weights.ts";

export interface QuantizeOptions extends QuantizationSettings, RangeOptions {
  /** Scales in 8 bits, as bitsandbytes nests them; of nf4 and fp4 only. */
  readonly doubleQuantization?: boolean;
  /** What layers are given, by module path: inputs that matter more get finer steps (activation-scales.ts). */
  readonly inputPower?: ReadonlyMap<string, InputPower>;
}

/** What quantization did to one layer. */
export interface LayerError {
  readonly path: string;
  /** ‖W − Ŵ‖ / ‖W‖. */
  readonly relativeError: number;
  /** The same weighted with the mean squares of the inputs; null without a calibration. */
  readonly outputError: number | null;
  /** Exponent of the activation scales; null without a calibration, 0 where none are better. */
  readonly exponent: number | null;
  readonly bytesBefore: number;
  readonly bytesAfter: number;
}

/**
 * Writes a model folder with the decoder's linear layers in few bits; all else is copied. nf4 and fp4 are stored as
 * bitsandbytes stores them, int4 and int8 as MatMulNBits reads them.
 *
 * @throws InvalidError for settings that do not fit the model or each other; ConflictError when `out` has files in it
 */
export async function writeQuantizedFolder(
  directory: string,
  out: string,
  options: QuantizeOptions,
): Promise<readonly LayerError[]> {
  checkBlockSize(options.blockSize);
  if (options.doubleQuantization && !isTableFormat(options.format))
    throw new InvalidError(
      "unknown_quantization",
      `scales of ${options.format} are not quantized a second time: double quantization is for nf4 and fp4`,
    );
  const folder = await openModelFolder(directory);
  refuseQuantized(folder, options.format);
  await makeEmptyFolder(directory, out);
  try {
    return await writeFolder(folder, out, options);
  } catch (error) {
    await rm(out, { recursive: true, force: true });
    throw error;
  }
}

async function writeFolder(folder: ModelFolder, out: string, options: QuantizeOptions): Promise<LayerError[]> {
  const errors: LayerError[] = [];
  const layers: TensorSource[] = [];
  const taken = new Set<string>();
  for (const [path, { in: width, out: rows }] of decoderLinears(folder.model)) {
    const layout: QuantizedLayout = { format: options.format, blockSize: options.blockSize, in: width, out: rows };
    checkLayout(path, layout);
    const { storedName, entry } = findTensor(folder, `${path}.weight`, [rows, width]);
    taken.add(storedName);
    const name = folder.model.storedPart?.(`${path}.weight`) ? `${path}.weight` : storedName;
    const { tensors, error } = await quantizeLayer(folder, path, name, layout, options);
    layers.push(...tensors);
    const bytesAfter = tensors.reduce((sum, { shape, type }) => sum + sizeOf(shape) * bytesPerElement[type], 0);
    errors.push({ ...error, bytesBefore: entry.sizeBytes, bytesAfter });
  }
  const others = folder.headers.flatMap((header) =>
    [...header.tensors.values()]
      .filter(({ name }) => !taken.has(name))
      .map(({ name, type, shape }): TensorSource => ({
        name,
        type,
        shape,
        read: async () => await readTensorBytes(header, name),
      })),
  );
  // Large elements first, so that all of them lie where their size divides.
  const tensors = [...others, ...layers].sort((a, b) => bytesPerElement[b.type] - bytesPerElement[a.type]);
  await writeTensorsInTurn(join(out, "model.safetensors"), tensors);
  await copyOtherFiles(folder.directory, out);
  await copyConfig(folder.directory, out, {
    ...configsOfParts(folder.directory, folder.configFile),
    quantization_config: configOf(folder, options),
  });
  return errors;
}

async function quantizeLayer(
  folder: ModelFolder,
  path: string,
  storedName: string,
  layout: QuantizedLayout,
  options: QuantizeOptions,
): Promise<{ tensors: TensorSource[]; error: Omit<LayerError, "bytesBefore" | "bytesAfter"> }> {
  const values = (await readWeights(folder, [`${path}.weight`])).get(`${path}.weight`) as Float32Array;
  const power = options.inputPower?.get(path) ?? null;
  const balance = power && balanceInputs(values, layout, power, options);
  const rounded = balance?.weight ?? quantizeWeight(values, layout, options);
  const nested = options.doubleQuantization ? nestScales(rounded.scales) : null;
  const stored = dequantizeWeight(nested ? { ...rounded, scales: unnestScales(nested) } : rounded, layout);
  if (balance?.inputScales) undoScales(stored, balance.inputScales);
  const tensors = tensorsOf(storedName, layout, { ...rounded, nested, inputScales: balance?.inputScales ?? null });
  return {
    tensors,
    error: {
      path,
      relativeError: relativeError(values, stored, null),
      outputError: power && relativeError(values, stored, power.meanSquares),
      exponent: balance?.exponent ?? null,
    },
  };
}

/** What the file holds of a layer. */
function tensorsOf(
  storedName: string,
  layout: QuantizedLayout,
  {
    packed,
    scales,
    nested,
    inputScales,
  }: PackedWeight & { readonly nested: NestedScales | null; readonly inputScales: Float32Array | null },
): TensorSource[] {
  const further = inputScales ? [tensor(`${storedName}.input_scales`, "F32", [layout.in], inputScales)] : [];
  if (!isTableFormat(layout.format))
    return [
      tensor(storedName, "U8", packedShape(layout), packed),
      tensor(`${storedName}.scales`, "F32", scalesShape(layout), scales),
      ...further,
    ];
  return [
    tensor(storedName, "U8", [packed.length, 1], packed),
    ...bitsAndBytesTensors(storedName, layout, scales, nested),
    ...further,
  ];
}

/** `QuantState.as_dict(packed=True)` of bitsandbytes 0.50. */
function bitsAndBytesTensors(
  storedName: string,
  { format, blockSize, in: width, out }: QuantizedLayout,
  scales: Float32Array,
  nested: NestedScales | null,
): TensorSource[] {
  const state = {
    quant_type: format,
    blocksize: blockSize,
    dtype: "float32",
    shape: [out, width],
    ...(nested && { nested_blocksize: nested.blockSize, nested_dtype: "float32", nested_offset: nested.offset }),
  };
  const text = new TextEncoder().encode(JSON.stringify(state));
  const table = Float32Array.from(codeBooks[format as "nf4" | "fp4"]);
  return [
    ...(nested
      ? [
          tensor(`${storedName}.absmax`, "U8", [nested.codes.length], nested.codes),
          tensor(`${storedName}.nested_absmax`, "F32", [nested.scales.length], nested.scales),
          tensor(`${storedName}.nested_quant_map`, "F32", [nested.table.length], nested.table),
        ]
      : [tensor(`${storedName}.absmax`, "F32", [scales.length], scales)]),
    tensor(`${storedName}.quant_map`, "F32", [table.length], table),
    tensor(`${storedName}.quant_state.bitsandbytes__${format}`, "U8", [text.length], text),
  ];
}

/** What the config says: bitsandbytes' own words where bitsandbytes can read the folder. */
function configOf({ model }: ModelFolder, options: QuantizeOptions): object {
  if (!isTableFormat(options.format) || options.inputPower)
    return {
      quant_method: "drydock",
      format: options.format,
      block_size: options.blockSize,
      activation_aware: options.inputPower !== undefined,
    };
  const quantized = decoderLinears(model);
  const kept = [...wholeForward(model).variables.linears.keys()].filter((path) => !quantized.has(path));
  return {
    quant_method: "bitsandbytes",
    load_in_4bit: true,
    load_in_8bit: false,
    bnb_4bit_quant_type: options.format,
    bnb_4bit_use_double_quant: options.doubleQuantization ?? false,
    bnb_4bit_compute_dtype: "float32",
    bnb_4bit_quant_storage: "uint8",
    llm_int8_skip_modules: ["lm_head", ...kept],
  };
}

async function makeEmptyFolder(directory: string, out: string): Promise<void> {
  if (resolve(directory) === resolve(out))
    throw new InvalidError("bad_output_folder", `--out ${out} is the model itself: name another folder`);
  await mkdir(out, { recursive: true });
  if ((await readdir(out)).length > 0)
    throw new ConflictError("folder_in_use", `folder ${out} has files in it: name a new one`);
}

function relativeError(before: Float32Array, after: Float32Array, columnWeights: Float32Array | null): number {
  const width = columnWeights?.length ?? 1;
  let [difference, size] = [0, 0];
  before.forEach((value, index) => {
    const factor = columnWeights ? (columnWeights[index % width] as number) : 1;
    difference += factor * (value - (after[index] as number)) ** 2;
    size += factor * value ** 2;
  });
  return size === 0 ? 0 : Math.sqrt(difference / size);
}

function tensor(
  name: string,
  type: TensorSource["type"],
  shape: readonly number[],
  data: ArrayBufferView,
): TensorSource {
  return { name, type, shape, read: () => Promise.resolve(data) };
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((size, side) => size * side, 1);
}
