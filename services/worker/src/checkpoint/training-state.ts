import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { DataCursor, Lineage, Scores } from "@drydock/spec";
import { z } from "zod";
import { nothingUntold, Untold } from "../training/untold.ts";
import { stateName } from "./run-folder.ts";
import { UnusableCheckpointError } from "./unusable-checkpoint-error.ts";

/**
 * Everything that the loop remembers besides the tensors: `state.json` of a checkpoint. A run starts by resuming from
 * the empty one, so what is missing here is missing after a resume.
 */
export const TrainingState = z.object({
  format: z.literal("drydock-training-state/1"),
  /** Optimizer steps taken. */
  step: z.int().nonnegative(),
  dataCursor: DataCursor,
  /** The checkpoint of another run that this one began from. */
  warmStart: Lineage.shape.warmStart.unwrap().default(null),
  /** Scores of the base, row 0 of the report; null until it was evaluated. */
  before: Scores.nullable(),
  /** The best evaluation while training, by the headline metric. */
  best: z.object({ step: z.int().nonnegative(), metric: z.string(), score: z.number() }).nullable(),
  /** Losses in a row that were not finite. */
  nonFiniteLosses: z.int().nonnegative(),
  /** Tokens and rows trained on, and seconds spent in steps, over all attempts. */
  tokens: z.int().nonnegative(),
  rows: z.int().nonnegative(),
  trainingSeconds: z.number().nonnegative(),
  /** Finite losses of the last steps, newest last, for messages. */
  recentLosses: z.array(z.number()),
  /** To be told by whoever goes on from here. */
  untold: Untold.default(nothingUntold),
});
export type TrainingState = z.infer<typeof TrainingState>;

/** The state before the first step. */
export function initialState(dataCursor: DataCursor): TrainingState {
  return {
    format: "drydock-training-state/1",
    step: 0,
    dataCursor,
    warmStart: null,
    before: null,
    best: null,
    nonFiniteLosses: 0,
    tokens: 0,
    rows: 0,
    trainingSeconds: 0,
    recentLosses: [],
    untold: nothingUntold,
  };
}

/** Reads `state.json` of a checkpoint's local copy. @throws UnusableCheckpointError when it is not one */
export async function readState(key: string, directory: string): Promise<TrainingState> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(join(directory, stateName), "utf8"));
  } catch (error) {
    throw new UnusableCheckpointError(key, `${stateName} cannot be read`, error);
  }
  const parsed = TrainingState.safeParse(value);
  if (!parsed.success) throw new UnusableCheckpointError(key, `${stateName} is not a training state`, parsed.error);
  return parsed.data;
}
