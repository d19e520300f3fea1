import { InvalidError } from "@drydock/kit";

/** The loss was not finite for several steps in a row: going on would only spoil the weights. */
export class DivergedError extends InvalidError {
  constructor(step: number, steps: number, learningRate: number, bestStep: number | null) {
    const kept = bestStep === null ? "" : `; the best checkpoint (step ${bestStep}) is kept`;
    super(
      "diverged",
      `the loss or its gradient was not finite for ${steps} step${steps === 1 ? "" : "s"} in a row, up to step ${step}, at a learning rate of ${learningRate}${kept}: submit the run again with training.learningRate ${Number((learningRate / 10).toPrecision(3))} or less`,
    );
  }
}
