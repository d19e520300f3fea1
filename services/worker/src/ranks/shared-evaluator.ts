import type { EvaluationPhase, EvaluationResult, Evaluator } from "../evaluation/evaluator.ts";
import type { Trainer } from "../training/trainer.ts";
import type { RankGroup } from "./rank-group.ts";

/** Rank 0 evaluates; every rank learns the result, since what is best decides what is saved. */
export class SharedEvaluator implements Evaluator {
  readonly #inner: Evaluator;
  readonly #group: RankGroup;

  constructor(inner: Evaluator, group: RankGroup) {
    this.#inner = inner;
    this.#group = group;
  }

  async evaluate(
    model: Pick<Trainer, "answer">,
    phase: EvaluationPhase,
    step: number,
    signal: AbortSignal,
  ): Promise<EvaluationResult | null> {
    return await this.#group.byFirst(async () => await this.#inner.evaluate(model, phase, step, signal));
  }
}
