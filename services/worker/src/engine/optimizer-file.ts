import { readdir } from "node:fs/promises";
import { join } from "node:path";
import {
  readFloatTensors,
  readSafetensorsHeader,
  writeSafetensors,
  type TrainerMoments,
  type TrainerState,
} from "@drydock/engine";
import { z } from "zod";

const namePattern = /^optimizer-(\d+)(?:-of-(\d+)-stages)?\.safetensors$/;

const firstMoment = ".first_moment";
const secondMoment = ".second_moment";

/** Where each piece of a tensor starts in it: absent in files of ranks that hold whole tensors. */
const Starts = z.record(z.string(), z.int().nonnegative());

/** Name of the file with one rank's part of the optimizer. */
export function optimizerName(rank: number, stages = 1): string {
  return `optimizer-${rank}${stages > 1 ? `-of-${stages}-stages` : ""}.safetensors`;
}

/** The rank whose part of the optimizer a file holds, and how many stages the ranks were; null for other files. */
export function optimizerPartOf(name: string): { readonly rank: number; readonly stages: number } | null {
  const match = namePattern.exec(name);
  return match && { rank: Number(match[1]), stages: Number(match[2] ?? 1) };
}

/** Writes a rank's part of AdamW's moments, float32, in the order of the trained tensors. */
export async function writeOptimizer(
  directory: string,
  rank: number,
  { step, tensors, moments }: TrainerState,
  stages = 1,
): Promise<void> {
  const shapes = new Map(tensors.map(({ name, shape }) => [name, shape]));
  const starts: Record<string, number> = {};
  const stored = moments.flatMap((piece) => {
    const whole = shapes.get(piece.name) ?? [];
    const isWhole = whole.reduce((product, size) => product * size, 1) === piece.firstMoment.length;
    if (!isWhole) starts[piece.name] = piece.start;
    const shape = isWhole ? whole : [piece.firstMoment.length];
    return [
      { name: `${piece.name}${firstMoment}`, shape, data: piece.firstMoment },
      { name: `${piece.name}${secondMoment}`, shape, data: piece.secondMoment },
    ];
  });
  const isSharded = Object.keys(starts).length > 0;
  await writeSafetensors(join(directory, optimizerName(rank, stages)), stored, {
    format: "pt",
    optimizer: "adamw",
    step: String(step),
    ...(isSharded ? { starts: JSON.stringify(starts) } : {}),
  });
}

/** Reads what ranks wrote with `writeOptimizer`: the parts of all files of the folder, whatever number of ranks wrote them. */
export async function readOptimizer(directory: string): Promise<Pick<TrainerState, "step" | "moments">> {
  const names = (await readdir(directory)).filter((name) => optimizerPartOf(name) !== null);
  const moments: TrainerMoments[] = [];
  let step = 0;
  for (const name of names) {
    const header = await readSafetensorsHeader(join(directory, name));
    const starts = Starts.parse(JSON.parse(header.metadata["starts"] ?? "{}"));
    const stored = await readFloatTensors(header, header.tensors.keys());
    step = Number(header.metadata["step"]);
    for (const [key, first] of stored) {
      if (!key.endsWith(firstMoment)) continue;
      const tensor = key.slice(0, -firstMoment.length);
      const second = stored.get(`${tensor}${secondMoment}`);
      if (second) moments.push({ name: tensor, start: starts[tensor] ?? 0, firstMoment: first, secondMoment: second });
    }
  }
  return { step, moments };
}
