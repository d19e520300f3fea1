import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { InvalidError } from "@drydock/kit";
import { wholeForward } from "../models/model.ts";
import type { ModuleAdapter } from "../models/variables.ts";
import { liveTensors } from "../models/load-model.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import { readWeights } from "../weights/read-weights.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import { saveWholeModel } from "../weights/save-model.ts";
import { rowLengths } from "./initial-values.ts";
import { readAdapter, type Adapter } from "./peft-files.ts";

/** The two matrices of an adapted layer, and with DoRA the lengths of the rows. */
export interface LayerAdapter {
  /** `[rank, in]`. */
  readonly a: Float32Array;
  /** `[out, rank]`. */
  readonly b: Float32Array;
  readonly lengths?: Float32Array | undefined;
}

/** W + s·B·A, with DoRA its rows brought to the trained lengths. @param weight  `[out, in]` */
export function mergedWeight(
  weight: Float32Array,
  adapter: LayerAdapter,
  { rank, scale }: ModuleAdapter,
): Float32Array {
  const rows = adapter.b.length / rank;
  const merged = added(weight, adapter, rank, scale);
  if (!adapter.lengths) return merged;
  const lengths = rowLengths(merged, rows);
  const columns = merged.length / rows;
  for (let row = 0; row < rows; row++) {
    const factor = (adapter.lengths[row] as number) / (lengths[row] as number);
    for (let at = row * columns; at < (row + 1) * columns; at++) merged[at] = (merged[at] as number) * factor;
  }
  return merged;
}

/** W from W + s·B·A, up to rounding. @throws InvalidError for DoRA, whose lengths of rows the base's are lost in */
export function unmergedWeight(
  merged: Float32Array,
  adapter: LayerAdapter,
  { rank, scale }: ModuleAdapter,
): Float32Array {
  if (adapter.lengths)
    throw new InvalidError(
      "no_unmerge",
      "an adapter with use_dora cannot be taken out of a merged model: the lengths of the base's rows are not in it; keep the base",
    );
  return added(merged, adapter, rank, -scale);
}

function added(weight: Float32Array, { a, b }: LayerAdapter, rank: number, scale: number): Float32Array {
  const columns = a.length / rank;
  const sum = Float32Array.from(weight);
  for (let at = 0; at < sum.length; at++) {
    const [row, column] = [Math.floor(at / columns), at % columns];
    let product = 0;
    for (let inner = 0; inner < rank; inner++)
      product += (b[row * rank + inner] as number) * (a[inner * columns + column] as number);
    sum[at] = (sum[at] as number) + scale * product;
  }
  return sum;
}

/**
 * Writes a model folder in which an adapter is part of the weights, or, with `takesOut`, is no longer.
 * @throws InvalidError when the adapter does not fit, the weights are in few bits, or `out` exists
 */
export async function mergeAdapter(options: {
  readonly directory: string;
  readonly adapterDirectory: string;
  readonly out: string;
  readonly takesOut?: boolean;
}): Promise<{ readonly layers: number; readonly whole: number }> {
  const { directory, adapterDirectory, out, takesOut = false } = options;
  const folder = await openModelFolder(directory);
  if (folder.quantized)
    throw new InvalidError(
      "quantized_merge",
      `model ${directory} holds weights in few bits, into which an adapter cannot be merged without rounding it away: merge it into the model that this one was made from, and quantize the result`,
    );
  if (existsSync(out)) throw new InvalidError("folder_exists", `${out} exists already; name a new folder`);
  const adapter = await readAdapter(adapterDirectory, folder.model);
  liveTensors(folder, adapter, `adapter ${adapterDirectory}`);
  if (takesOut && adapter.placement.whole.size > 0)
    throw new InvalidError(
      "no_unmerge",
      `adapter ${adapterDirectory} trains ${[...adapter.placement.whole][0]} whole, so that the base's own is not in a merged model; keep the base`,
    );
  const tensors = await mergedTensors(folder, adapter, takesOut ? unmergedWeight : mergedWeight);
  await mkdir(out, { recursive: true });
  await saveWholeModel(folder, out, tensors);
  return { layers: adapter.placement.modules.size, whole: adapter.placement.whole.size };
}

async function mergedTensors(
  folder: ModelFolder,
  { placement, tensors }: Adapter,
  change: typeof mergedWeight,
): Promise<{ name: string; shape: readonly number[]; data: Float32Array }[]> {
  const { shapes } = wholeForward(folder.model).variables;
  const shapeOf = (name: string): number[] => (shapes.get(name) ?? []).map(Number);
  const part = (name: string): Float32Array => tensors.get(name) as Float32Array;
  const names = [...placement.modules.keys()].map((path) => `${path}.weight`);
  const weights = await readWeights(folder, names);
  const layers = [...placement.modules].map(([path, module]) => {
    const name = `${path}.weight`;
    const layer = {
      a: part(`${path}.lora_A.weight`),
      b: part(`${path}.lora_B.weight`),
      lengths: placement.usesDora ? part(`${path}.lora_magnitude_vector`) : undefined,
    };
    return { name, shape: shapeOf(name), data: change(weights.get(name) as Float32Array, layer, module) };
  });
  return [...layers, ...[...placement.whole].map((name) => ({ name, shape: shapeOf(name), data: part(name) }))];
}
