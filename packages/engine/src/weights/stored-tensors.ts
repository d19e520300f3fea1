import { wholeForward, type Model } from "../models/model.ts";
import { madeAnew } from "./check-weights.ts";
import { findTensor } from "./find-tensor.ts";
import { readWeights } from "./read-weights.ts";
import type { ModelFolder } from "./model-folder.ts";
import { readFloatTensors } from "./read-floats.ts";
import type { WritableTensor } from "./safetensors.ts";

type FloatTensor = WritableTensor & { readonly data: Float32Array };

/**
 * All tensors of a model as its files name them, with those given in place of the stored ones.
 * @param tensors  by the model's names
 */
export async function wholeModel(folder: ModelFolder, tensors: readonly FloatTensor[]): Promise<WritableTensor[]> {
  const siblings = await otherParts(folder, tensors);
  const named = joinParts(folder.model, [...tensors, ...siblings], (name) => findTensor(folder, name).storedName);
  const known = new Set(named.map(({ name }) => name));
  return [...named, ...(await readOthers(folder, known))];
}

/** Tensors under their stored names, those that are parts of one joined along the first axis. All parts must be given. */
export function joinParts(
  model: Pick<Model, "storedPart">,
  tensors: readonly FloatTensor[],
  storedName: (name: string) => string,
): FloatTensor[] {
  const joined = new Map<string, FloatTensor>();
  for (const tensor of tensors) {
    const name = storedName(tensor.name);
    const part = model.storedPart?.(tensor.name) ?? null;
    if (!part) {
      joined.set(name, { ...tensor, name });
      continue;
    }
    const [rows = 0, ...rest] = tensor.shape;
    const whole = joined.get(name) ?? {
      name,
      shape: [rows * part.count, ...rest],
      data: new Float32Array(tensor.data.length * part.count),
    };
    whole.data.set(tensor.data, part.index * tensor.data.length);
    joined.set(name, whole);
  }
  return [...joined.values()];
}

/** The stored values of weights that share a stored tensor with one of those given and are not given themselves. */
async function otherParts(folder: ModelFolder, tensors: readonly FloatTensor[]): Promise<FloatTensor[]> {
  const parts = tensors.filter(({ name }) => folder.model.storedPart?.(name));
  if (parts.length === 0) return [];
  const given = new Set(tensors.map(({ name }) => name));
  const shared = new Set(parts.map(({ name }) => findTensor(folder, name).storedName));
  const missing = [...wholeForward(folder.model).variables.shapes].filter(
    ([name]) => !given.has(name) && folder.model.storedNames(name).some((stored) => shared.has(stored)),
  );
  const values = await readWeights(
    folder,
    missing.map(([name]) => name),
  );
  return missing.map(([name, shape]) => ({ name, shape: shape.map(Number), data: values.get(name) as Float32Array }));
}

/** Tensors of a folder's files other than those of the given names, by the files' names. */
async function readOthers(folder: ModelFolder, known: ReadonlySet<string>): Promise<WritableTensor[]> {
  const isMadeAnew = madeAnew(folder.model);
  const parts = await Promise.all(
    folder.headers.map(async (header) => {
      const names = [...header.tensors.keys()].filter((name) => !known.has(name) && !isMadeAnew(name));
      const read = await readFloatTensors(header, names);
      return names.map((name) => ({
        name,
        shape: header.tensors.get(name)?.shape ?? [],
        data: read.get(name) as Float32Array,
      }));
    }),
  );
  return parts.flat();
}
