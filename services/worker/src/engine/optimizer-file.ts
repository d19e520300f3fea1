import { join } from "node:path";
import { readFloatTensors, readSafetensorsHeader, writeSafetensors, type TrainerState } from "@drydock/engine";

/** Rank 0's optimizer. */
const optimizerName = "optimizer-0.safetensors";

const firstMoment = ".first_moment";
const secondMoment = ".second_moment";

/** Writes AdamW's moments, float32, in the order of the trained tensors. */
export async function writeOptimizer(directory: string, { step, tensors }: TrainerState): Promise<void> {
  const moments = tensors.flatMap((tensor) => [
    { name: `${tensor.name}${firstMoment}`, shape: tensor.shape, data: tensor.firstMoment },
    { name: `${tensor.name}${secondMoment}`, shape: tensor.shape, data: tensor.secondMoment },
  ]);
  await writeSafetensors(join(directory, optimizerName), moments, {
    format: "pt",
    optimizer: "adamw",
    step: String(step),
  });
}

export interface Moments {
  readonly step: number;
  /** By name of the trained tensor; undefined when the file lacks it. */
  of(name: string): { readonly firstMoment: Float32Array; readonly secondMoment: Float32Array } | undefined;
}

/** Reads what `writeOptimizer` wrote. */
export async function readOptimizer(directory: string): Promise<Moments> {
  const header = await readSafetensorsHeader(join(directory, optimizerName));
  const stored = await readFloatTensors(header, header.tensors.keys());
  return {
    step: Number(header.metadata["step"]),
    of: (name) => {
      const first = stored.get(`${name}${firstMoment}`);
      const second = stored.get(`${name}${secondMoment}`);
      return first && second ? { firstMoment: first, secondMoment: second } : undefined;
    },
  };
}
