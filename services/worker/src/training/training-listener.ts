import type { Scores } from "@drydock/spec";
import type { WrittenCheckpoint } from "../checkpoint/write-checkpoint.ts";
import type { Untold } from "./untold.ts";

export type TrainingPhase =
  | "loading"
  | "evaluating-before"
  | "training"
  | "evaluating-during"
  | "evaluating-after"
  | "saving";

export interface StepReport {
  readonly step: number;
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Peak resident memory of the process so far. */
  readonly memoryBytes: number;
  /** Rows seen divided by rows of the data. */
  readonly epoch: number;
}

export interface EvaluationReport {
  readonly phase: "before" | "during" | "after" | "standalone";
  readonly step: number;
  readonly scores: Scores;
  readonly samples: number;
  readonly seconds: number;
  readonly resultsKey: string;
}

/** Who is told what happens in a run: the control plane, a log, `steps.jsonl`. Never throws, never waits. */
export interface TrainingListener {
  phaseChanged(phase: TrainingPhase): void;
  stepFinished(report: StepReport): void;
  checkpointSaved(checkpoint: WrittenCheckpoint, isBest: boolean): void;
  evaluationFinished(report: EvaluationReport): void;
  log(level: "info" | "warn" | "error", message: string): void;
  /** What nobody has acknowledged yet; absent where nobody is to. */
  untold?(): Untold;
  /** Tells what an attempt before this one could not. */
  retell?(untold: Untold): void;
}
