import type { Logger } from "@drydock/kit";
import type { WrittenCheckpoint } from "../checkpoint/write-checkpoint.ts";
import type { EvaluationReport, StepReport, TrainingListener, TrainingPhase } from "../training/training-listener.ts";
import type { StepsFile } from "./steps-file.ts";

/** Tells a log and `steps.jsonl` what happens in a run without a control plane. */
export class StandaloneListener implements TrainingListener {
  readonly #logger: Logger;
  readonly #steps: StepsFile;
  #isFirstStep = true;

  constructor(logger: Logger, steps: StepsFile) {
    this.#logger = logger;
    this.#steps = steps;
  }

  phaseChanged(phase: TrainingPhase): void {
    this.#logger.debug({ phase }, "phase changed");
  }

  stepFinished(report: StepReport): void {
    if (this.#isFirstStep) this.#steps.rewindTo(report.step - 1);
    this.#isFirstStep = false;
    this.#steps.append(report);
    const { step, loss, learningRate, gradientNorm, tokens, seconds } = report;
    this.#logger.info(
      { step, loss, learningRate, gradientNorm, tokensPerSecond: Math.round(tokens / seconds) },
      "step finished",
    );
  }

  checkpointSaved({ step, key, sizeBytes }: WrittenCheckpoint, isBest: boolean): void {
    this.#logger.info({ step, key, sizeBytes, isBest }, "checkpoint saved");
  }

  evaluationFinished({ phase, step, scores, samples, seconds }: EvaluationReport): void {
    this.#logger.info({ phase, step, scores, samples, seconds }, "evaluation finished");
  }

  log(level: "info" | "warn" | "error", message: string): void {
    this.#logger[level](message);
  }
}
