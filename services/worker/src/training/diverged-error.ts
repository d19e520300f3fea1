import { InvalidError } from "@drydock/kit";

/** The loss was not finite for several steps in a row: going on would only spoil the weights. */
export class DivergedError extends InvalidError {
  constructor(step: number, steps: number, learningRate: number, bestStep: number | null) {
    const kept = bestStep === null ? "" : `; the best checkpoint (step ${bestStep}) is kept`;
    super(
      "diverged",
      `the loss was not finite for ${steps} steps in a row, up to step ${step}, at a learning rate of ${learningRate}${kept}: submit the run again with training.learningRate ${learningRate / 10} or less`,
    );
  }
}
