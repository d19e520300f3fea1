import { evaluateGate, type GateQuestion, type GateResult, type GateRule } from "@drydock/data";
import { InvalidError, type ErrorDetail } from "@drydock/kit";
import type { EvaluationComparison, LiveMetrics, Observation } from "@drydock/spec";
import { liveMetrics, type ObservedModel } from "../observations/live-metrics.ts";
import { liveScore, type LiveScore, type LiveScoreQuestion } from "../pipelines/live-score.ts";
import { compareSamples, type SampleComparison } from "./compare-samples.ts";

/** What is computed, by the name of the function. */
export interface StatisticsJobs {
  compare: { question: SampleComparison; answer: Omit<EvaluationComparison, "a" | "b"> };
  gate: { question: { rules: readonly GateRule[]; question: GateQuestion }; answer: GateResult };
  score: {
    question: { observed: readonly Observation[]; question: LiveScoreQuestion };
    answer: LiveScore;
  };
  live: { question: { model: ObservedModel; since: Date; observed: readonly Observation[] }; answer: LiveMetrics };
}

/** An answer, or a refusal: classes of errors do not come across the border of a thread. */
export type Computed<Answer> =
  | { readonly answer: Answer }
  | { readonly refused: { readonly code: string; readonly message: string; readonly details: readonly ErrorDetail[] } };

export function compare(question: SampleComparison): Computed<StatisticsJobs["compare"]["answer"]> {
  return computed(() => compareSamples(question));
}

export function gate({ rules, question }: StatisticsJobs["gate"]["question"]): Computed<GateResult> {
  return computed(() => evaluateGate(rules, question));
}

export function live({ model, since, observed }: StatisticsJobs["live"]["question"]): Computed<LiveMetrics> {
  return computed(() => liveMetrics(model, since, observed));
}

export function score({ observed, question }: StatisticsJobs["score"]["question"]): Computed<LiveScore> {
  return computed(() => liveScore(observed, question));
}

function computed<Answer>(compute: () => Answer): Computed<Answer> {
  try {
    return { answer: compute() };
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    return { refused: { code: error.code, message: error.message, details: error.details } };
  }
}
