import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SeededRandom } from "../training/random.ts";
import { writeSafetensors } from "../weights/safetensors.ts";
import { joinParts } from "../weights/stored-tensors.ts";
import { openModel } from "./families.ts";
import { wholeForward } from "./model.ts";

/** Writes a model folder (`config.json`, `model.safetensors`) with random weights: normal with σ 0.02, norms 1, biases 0. */
export async function createRandomModel(
  configFile: unknown,
  directory: string,
  seed: number,
): Promise<{ parameters: number }> {
  const model = openModel(configFile);
  await mkdir(directory, { recursive: true });
  let parameters = 0;
  const weights = [...wholeForward(model).variables.shapes].map(([name, shape]) => {
    const sizes = shape.map(Number);
    const data = initialValues(name, sizes, seed);
    parameters += data.length;
    return { name, shape: sizes, data };
  });
  const tensors = joinParts(model, weights, (name) => model.storedNames(name)[0] ?? name);
  await writeFile(join(directory, "config.json"), `${JSON.stringify(configFile, null, 2)}\n`);
  await writeSafetensors(join(directory, "model.safetensors"), tensors);
  return { parameters };
}

function initialValues(name: string, shape: readonly number[], seed: number): Float32Array {
  const values = new Float32Array(shape.reduce((size, side) => size * side, 1));
  if (name.endsWith(".bias")) return values;
  if (shape.length === 1) return values.fill(1);
  const random = new SeededRandom(seed, name);
  for (let index = 0; index < values.length; index++) values[index] = random.normal() * 0.02;
  return values;
}
