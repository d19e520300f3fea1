import type { ObjectStorage } from "@drydock/kit";
import { detailsKeyOf, type DataRecord, type EvaluationDetails, type SampleResult, type Scores } from "@drydock/spec";
import type { Answerer } from "../training/trainer.ts";
import type { EvaluationPhase, EvaluationResult, Evaluator } from "./evaluator.ts";

/** Questions answered at once. */
export const answeredAtOnce = 16;

/** What the answers are worth: one result per record, and the scores of all. */
export interface Scoring {
  readonly scores: Scores;
  readonly results: readonly SampleResult[];
  /** Confidence intervals and slices; takes a moment, so only who keeps them asks. */
  readonly details: () => EvaluationDetails;
}

export interface ValidationEvaluatorOptions {
  /** Where results are kept; null for a rank whose results another one keeps. */
  readonly storage: ObjectStorage | null;
  /** The validation split, in file order. */
  readonly records: readonly DataRecord[];
  /** Key of the results of one evaluation. */
  readonly resultsKeyOf: (phase: EvaluationPhase, step: number) => string;
  /** Metrics asked for; the first is the headline. */
  readonly metrics: readonly string[];
  /** Rows of an evaluation while training; before and after use all, so that the two can be compared. */
  readonly maxSamplesDuring: number | null;
  readonly maxNewTokens: number;
  /** Questions answered at once. */
  readonly batchSize: number;
  readonly score: (
    records: readonly DataRecord[],
    answers: readonly string[],
    spaceOf: Answerer["boxSpaceOf"],
  ) => Scoring;
  readonly nowMs: () => number;
}

/** Answers the validation split greedily, scores the answers, and stores each with what was right. */
export class ValidationEvaluator implements Evaluator {
  readonly #options: ValidationEvaluatorOptions;

  constructor(options: ValidationEvaluatorOptions) {
    this.#options = options;
  }

  async evaluate(
    model: Answerer,
    phase: EvaluationPhase,
    step: number,
    signal: AbortSignal,
  ): Promise<EvaluationResult | null> {
    const { storage, metrics, maxSamplesDuring, nowMs } = this.#options;
    const startedMs = nowMs();
    const records =
      phase === "during" && maxSamplesDuring !== null
        ? evenly(this.#options.records, maxSamplesDuring)
        : this.#options.records;
    const answers = await this.#answer(model, records, signal);
    if (answers === null) return null;
    const { scores, results, details } = this.#options.score(records, answers, (record) => model.boxSpaceOf(record));
    const resultsKey = this.#options.resultsKeyOf(phase, step);
    if (storage) {
      await storage.put(detailsKeyOf(resultsKey), JSON.stringify(details()));
      await storage.put(resultsKey, results.map((result) => `${JSON.stringify(result)}\n`).join(""));
    }
    return {
      scores,
      headline: headlineOf(scores, metrics),
      samples: records.length,
      seconds: (nowMs() - startedMs) / 1000,
      resultsKey,
    };
  }

  async #answer(model: Answerer, records: readonly DataRecord[], signal: AbortSignal): Promise<string[] | null> {
    const { batchSize, maxNewTokens } = this.#options;
    const answers: string[] = [];
    for (let start = 0; start < records.length; start += batchSize) {
      if (signal.aborted) return null;
      const questions = records.slice(start, start + batchSize).map((record) => ({ record }));
      answers.push(...(await model.answer(questions, { maxNewTokens })));
    }
    return answers;
  }
}

/** At most `count` of the items, evenly spread, the same ones each time. */
export function evenly<T>(items: readonly T[], count: number): readonly T[] {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, index) => items[Math.floor((index * items.length) / count)] as T);
}

function headlineOf(scores: Scores, metrics: readonly string[]): EvaluationResult["headline"] {
  for (const metric of metrics) {
    const score = scores[metric];
    if (score !== undefined) return { metric, score };
  }
  return { metric: metrics[0] ?? "none", score: 0 };
}
