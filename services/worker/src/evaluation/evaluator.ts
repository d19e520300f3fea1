import type { Scores } from "@drydock/spec";
import type { Answerer } from "../training/trainer.ts";

export type EvaluationPhase = "before" | "during" | "after";

export interface EvaluationResult {
  readonly scores: Scores;
  /** The first metric asked for, and its score: what "best" means. */
  readonly headline: { readonly metric: string; readonly score: number };
  readonly samples: number;
  readonly seconds: number;
  /** Key of the JSONL of `SampleResult` in storage. */
  readonly resultsKey: string;
}

/** Scores a model on the validation split. */
export interface Evaluator {
  /** Null when `signal` ended it early; then nothing was stored. */
  evaluate(
    model: Answerer,
    phase: EvaluationPhase,
    step: number,
    signal: AbortSignal,
  ): Promise<EvaluationResult | null>;
}
