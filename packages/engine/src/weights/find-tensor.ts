import { InvalidError } from "@drydock/kit";
import type { StoredPart } from "../models/model.ts";
import type { ModelFolder } from "./model-folder.ts";
import type { SafetensorsHeader, TensorEntry } from "./safetensors.ts";

export interface FoundTensor {
  readonly header: SafetensorsHeader;
  /** Where the weight lies: the whole stored tensor or a part of it, under the stored name. */
  readonly entry: TensorEntry;
  /** What the file calls it. */
  readonly storedName: string;
}

/**
 * The header and entry of one weight, whatever the file calls it.
 * @param name  as the model calls it
 * @throws InvalidError when the folder lacks it or its shape differs
 */
export function findTensor(
  folder: Pick<ModelFolder, "directory" | "model" | "headers">,
  name: string,
  shape?: readonly number[],
): FoundTensor {
  for (const storedName of folder.model.storedNames(name))
    for (const header of folder.headers) {
      const stored = header.tensors.get(storedName);
      if (!stored) continue;
      const part = folder.model.storedPart?.(name) ?? null;
      const entry = part ? partOf(stored, part, folder.directory) : stored;
      if (shape && entry.shape.join() !== shape.join())
        throw new InvalidError(
          "bad_weight_shape",
          `weight ${storedName} of ${folder.directory} is [${entry.shape.join(", ")}], but config.json asks for [${shape.join(", ")}]`,
        );
      return { header, entry, storedName };
    }
  throw new InvalidError(
    "missing_weight",
    `folder ${folder.directory} lacks the weight ${folder.model.storedNames(name)[0] ?? name} that its config.json asks for`,
  );
}

/** Rows of the first axis follow each other in files, so a part of them is a tensor of its own. */
function partOf(entry: TensorEntry, { index, count }: StoredPart, directory: string): TensorEntry {
  const [rows = 0, ...rest] = entry.shape;
  if (rows % count !== 0)
    throw new InvalidError(
      "bad_weight_shape",
      `weight ${entry.name} of ${directory} is [${entry.shape.join(", ")}], but holds ${count} weights of equal size`,
    );
  const sizeBytes = entry.sizeBytes / count;
  return { ...entry, shape: [rows / count, ...rest], offset: entry.offset + index * sizeBytes, sizeBytes };
}
