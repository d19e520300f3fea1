import { InvalidError } from "@drydock/kit";
import type { TrainedPart } from "./rank-update.ts";

/** All that a step changes: with it, the next step is the same bit for bit. */
export interface TrainerState {
  /** Optimizer steps taken. */
  readonly step: number;
  readonly tensors: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly values: Float32Array;
  }[];
  /** First and second moments, by the pieces of tensors that this rank keeps them of. */
  readonly moments: readonly TrainerMoments[];
}

/** The moments of the elements of one tensor from `start` on. */
export type TrainerMoments = Pick<TrainedPart, "name" | "start" | "firstMoment" | "secondMoment">;

/** Fills a part's moments from pieces of its tensor; false when they do not cover it. */
export function takeMoments(part: TrainedPart, pieces: readonly TrainerMoments[]): boolean {
  let covered = 0;
  for (const piece of pieces) {
    const from = Math.max(part.start, piece.start);
    const to = Math.min(part.start + part.firstMoment.length, piece.start + piece.firstMoment.length);
    if (to <= from) continue;
    part.firstMoment.set(piece.firstMoment.subarray(from - piece.start, to - piece.start), from - part.start);
    part.secondMoment.set(piece.secondMoment.subarray(from - piece.start, to - piece.start), from - part.start);
    covered += to - from;
  }
  return covered === part.firstMoment.length;
}

/** A checkpoint of another run spec, or of none. */
export function notAsTrained(name: string): InvalidError {
  return new InvalidError(
    "bad_checkpoint",
    `the checkpoint does not hold ${name} as this run trains it; was the run spec changed?`,
  );
}
