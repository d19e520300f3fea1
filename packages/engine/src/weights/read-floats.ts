import { sharedFloats } from "../runtime/shared-floats.ts";
import { FloatReader } from "./float-reader.ts";
import { entryOf, type SafetensorsHeader } from "./safetensors.ts";

/** What is asked of numbers that are read. */
export interface ReadFloatsOptions {
  /** Whether a number that is not finite is an error; default false. */
  readonly needsFinite?: boolean;
}

/** Reads tensors of a file as float32 (BF16, F16 and F64 are converted) into shared memory, by name. */
export async function readFloatTensors(
  header: SafetensorsHeader,
  names: Iterable<string>,
  { needsFinite = false }: ReadFloatsOptions = {},
): Promise<Map<string, Float32Array>> {
  const reader = new FloatReader();
  const result = new Map<string, Float32Array>();
  for (const name of names) {
    const entry = entryOf(header, name);
    const values = sharedFloats(entry.shape.reduce((count, size) => count * size, 1));
    await reader.read(header.path, entry, values, needsFinite);
    result.set(name, values);
  }
  return result;
}
