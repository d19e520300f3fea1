import type { LoraPlacement } from "../models/variables.ts";
import { SeededRandom } from "../training/random.ts";
import { readWeights } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { LoraOptions } from "./lora-options.ts";

const matrix = /^(.*)\.lora_([AB])\.weight$/;
const magnitude = /^(.*)\.lora_magnitude_vector$/;

/**
 * First values of what an adapter trains: A random, B zero, lengths of rows those of the base's weights, what is trained whole as it
 * is in the base. So the first step sees the base model exactly.
 */
export async function initialAdapter(
  folder: ModelFolder,
  placement: LoraPlacement,
  tensors: readonly { readonly name: string; readonly shape: readonly number[] }[],
  options: Pick<LoraOptions, "initialization"> & { readonly seed: number },
): Promise<Map<string, Float32Array>> {
  const whole = await readWeights(folder, placement.whole);
  const values = new Map<string, Float32Array>();
  for (const { name, shape } of tensors) {
    const [, path] = magnitude.exec(name) ?? [];
    const own = whole.get(name);
    if (own) values.set(name, own);
    else if (path !== undefined) {
      const weight = (await readWeights(folder, [`${path}.weight`])).get(`${path}.weight`) as Float32Array;
      values.set(name, rowLengths(weight, shape[0] as number));
    } else values.set(name, initialMatrix(name, shape, options));
  }
  return values;
}

/** A uniform in ±1/√in (Kaiming with a = √5, as PEFT) or normal with σ 1/rank; B zero. */
function initialMatrix(
  name: string,
  shape: readonly number[],
  { initialization = "kaiming", seed }: Pick<LoraOptions, "initialization"> & { readonly seed: number },
): Float32Array {
  const [rows = 0, columns = 0] = shape;
  const values = new Float32Array(rows * columns);
  if (matrix.exec(name)?.[2] !== "A") return values;
  const random = new SeededRandom(seed, name);
  const bound = 1 / Math.sqrt(columns);
  for (let index = 0; index < values.length; index++)
    values[index] = initialization === "gaussian" ? random.normal() / rows : (random.uniform() * 2 - 1) * bound;
  return values;
}

/** Euclidean lengths of the rows of a matrix. */
export function rowLengths(matrixValues: Float32Array, rows: number): Float32Array {
  const columns = matrixValues.length / rows;
  return Float32Array.from({ length: rows }, (_, row) => {
    let sum = 0;
    for (let column = 0; column < columns; column++) sum += (matrixValues[row * columns + column] as number) ** 2;
    return Math.sqrt(sum);
  });
}
