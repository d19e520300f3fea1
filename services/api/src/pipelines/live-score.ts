import { scoreSamples } from "@drydock/data";
import type { Observation, Task } from "@drydock/spec";
import { sampleOf } from "../observations/live-metrics.ts";

/** What live answers of a version come to by one metric. */
export interface LiveScore {
  /** Answers whose truth is known. */
  readonly samples: number;
  /** Null while there are fewer than are wanted. */
  readonly score: number | null;
}

/** By what live answers are scored, and how many it takes. */
export interface LiveScoreQuestion {
  readonly task: Task;
  readonly metric: string;
  readonly minimumSamples: number;
}

/** Scored by the code of evaluations, on the answers that came with the truth. Some metrics take seconds: see `Statistics`. */
export function liveScore(
  observed: readonly Observation[],
  { task, metric, minimumSamples }: LiveScoreQuestion,
): LiveScore {
  const samples = observed.flatMap((each) => sampleOf(task, each) ?? []);
  const score = samples.length < minimumSamples ? null : (scoreSamples(task, [metric], samples).scores[metric] ?? null);
  return { samples: samples.length, score };
}

/** A score as sentences have it. */
export function shownScore(value: number): string {
  return String(Number(value.toPrecision(4)));
}
