import { InvalidError } from "@drydock/kit";
import type { WeightLocation } from "../graph/onnx/encoder.ts";
import { externalLocation } from "../quantization/quantized-weights.ts";
import { findTensor } from "./find-tensor.ts";
import type { ModelFolder } from "./model-folder.ts";
import { readFloatEntries } from "./read-floats.ts";
import type { SafetensorsHeader, TensorEntry } from "./safetensors.ts";

/** Reads weights as float32, by name. */
export async function readWeights(folder: ModelFolder, names: Iterable<string>): Promise<Map<string, Float32Array>> {
  const byHeader = new Map<SafetensorsHeader, Map<string, TensorEntry>>();
  for (const name of names) {
    const { header, entry } = findTensor(folder, name);
    const wanted = byHeader.get(header) ?? new Map<string, TensorEntry>();
    byHeader.set(header, wanted.set(name, entry));
  }
  const result = new Map<string, Float32Array>();
  for (const [header, wanted] of byHeader)
    for (const [name, data] of await readFloatEntries(header.path, wanted, { needsFinite: true }))
      result.set(name, data);
  return result;
}

const external: Readonly<Record<string, WeightLocation["dtype"]>> = {
  F32: "float32",
  BF16: "bfloat16",
  F16: "float16",
};

/**
 * Where weights lie, for ONNX external data: nothing is copied on load. Parts of quantized layers that are computed when they
 * are read have no place; they are fed.
 */
export function weightLocations(
  folder: ModelFolder,
  shapes: ReadonlyMap<string, readonly (number | string)[]>,
): Map<string, WeightLocation> {
  const result = new Map<string, WeightLocation>();
  for (const [name, shape] of shapes) {
    if (folder.quantized?.has(name)) {
      const part = folder.quantized.location(name);
      if (part) result.set(name, externalLocation(folder, part));
      continue;
    }
    const { header, entry } = findTensor(folder, name, shape.map(Number));
    const dtype = external[entry.type];
    if (!dtype)
      throw new InvalidError(
        "bad_weight_type",
        `weight ${name} of ${folder.directory} is stored as ${entry.type}; F32, BF16 and F16 are understood`,
      );
    result.set(name, {
      file: header.path.slice(folder.directory.length).replace(/^\/+/, ""),
      offset: entry.offset,
      sizeBytes: entry.sizeBytes,
      dtype,
    });
  }
  return result;
}
