import type { DataRecord } from "@drydock/spec";
import type { EvaluationPhase, EvaluationResult, Evaluator } from "../evaluation/evaluator.ts";
import type { AnswerOptions, Question, Answerer } from "../training/trainer.ts";
import type { RankGroup } from "./rank-group.ts";

/** Some rank was asked to end: the evaluation is not finished. */
class StoppedEvaluation extends Error {}

/**
 * Every rank answers its part of the questions, and every rank learns the result, since what is best decides what is saved.
 * The inner evaluator runs on each rank; only rank 0's stores what it finds.
 */
export class SharedEvaluator implements Evaluator {
  readonly #inner: Evaluator;
  readonly #group: RankGroup;

  constructor(inner: Evaluator, group: RankGroup) {
    this.#inner = inner;
    this.#group = group;
  }

  async evaluate(
    model: Answerer,
    phase: EvaluationPhase,
    step: number,
    signal: AbortSignal,
  ): Promise<EvaluationResult | null> {
    const together = {
      answer: async (questions: readonly Question[], options: AnswerOptions): Promise<string[]> =>
        await this.#answer(model, questions, options, signal),
      boxSpaceOf: (record: DataRecord) => model.boxSpaceOf(record),
    };
    let own: EvaluationResult | null = null;
    try {
      // Each rank goes on or stops with the others: a signal is looked at where they meet.
      own = await this.#inner.evaluate(together, phase, step, new AbortController().signal);
    } catch (error) {
      if (!(error instanceof StoppedEvaluation)) throw error;
      return null;
    }
    return await this.#group.byFirst(async () => own);
  }

  /** Answers to all questions, each from the rank whose turn it is. @throws StoppedEvaluation on all ranks or on none */
  async #answer(
    model: Answerer,
    questions: readonly Question[],
    options: AnswerOptions,
    signal: AbortSignal,
  ): Promise<string[]> {
    const { rank, worldSize } = this.#group;
    const mine = questions.filter((_, index) => index % worldSize === rank);
    const own = signal.aborted ? null : mine.length === 0 ? [] : await model.answer(mine, options);
    const parts = (await this.#group.exchange(JSON.stringify(own))).map((text) => JSON.parse(text) as string[] | null);
    return questions.map((_, index) => {
      const answers = parts[index % worldSize];
      if (!answers || parts.includes(null)) throw new StoppedEvaluation("a rank was asked to end");
      return answers[Math.floor(index / worldSize)] ?? "";
    });
  }
}
