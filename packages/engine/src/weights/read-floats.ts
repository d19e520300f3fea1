import { sharedFloats } from "../runtime/shared-floats.ts";
import { FloatReader } from "./float-reader.ts";
import { entryOf, type SafetensorsHeader, type TensorEntry } from "./safetensors.ts";

/** What is asked of numbers that are read. */
export interface ReadFloatsOptions {
  /** Whether a number that is not finite is an error; default false. */
  readonly needsFinite?: boolean;
}

/** Reads tensors of a file as float32 (BF16, F16 and F64 are converted) into shared memory, by name. */
export async function readFloatTensors(
  header: SafetensorsHeader,
  names: Iterable<string>,
  options: ReadFloatsOptions = {},
): Promise<Map<string, Float32Array>> {
  return await readFloatEntries(
    header.path,
    new Map(Array.from(names, (name) => [name, entryOf(header, name)])),
    options,
  );
}

/** As {@link readFloatTensors}, for tensors or parts of them, by any name. */
export async function readFloatEntries(
  path: string,
  entries: ReadonlyMap<string, TensorEntry>,
  { needsFinite = false }: ReadFloatsOptions = {},
): Promise<Map<string, Float32Array>> {
  const reader = new FloatReader();
  const result = new Map<string, Float32Array>();
  for (const [name, entry] of entries) {
    const values = sharedFloats(entry.shape.reduce((count, size) => count * size, 1));
    await reader.read(path, entry, values, needsFinite);
    result.set(name, values);
  }
  return result;
}
