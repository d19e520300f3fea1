import { learningRateOf, type RunSpec } from "@drydock/spec";
import type { CheckpointStore } from "../checkpoint/checkpoint-store.ts";
import { initialState, type TrainingState } from "../checkpoint/training-state.ts";
import type { EvaluationPhase, EvaluationResult, Evaluator } from "../evaluation/evaluator.ts";
import { DivergedError } from "./diverged-error.ts";
import type { LoopControl } from "./run-control.ts";
import type { RowSource, StepMeasure, Trainer } from "./trainer.ts";
import type { TrainingListener } from "./training-listener.ts";
import { nothingUntold } from "./untold.ts";

/** Losses in a row that may be not finite before the run counts as diverged. */
const toleratedNonFiniteLosses = 3;
const rememberedLosses = 20;

/** Everything a run consists of, ready to go. */
export interface TrainingRun {
  readonly spec: Pick<RunSpec, "mode" | "training" | "warmStart" | "checkpoint" | "evaluation">;
  readonly totalSteps: number;
  readonly trainer: Trainer;
  readonly rows: RowSource;
  /** Null when there is nothing to evaluate on. */
  readonly evaluator: Evaluator | null;
  readonly checkpoints: CheckpointStore;
  readonly control: LoopControl;
  readonly listener: TrainingListener;
  readonly clock: { /** Milliseconds, only differences count. */ now(): number; peakMemoryBytes(): number };
}

/** How a run ended. `stopped`: after a checkpoint, to be resumed; `aborted`: without one. */
export type TrainingOutcome =
  | { readonly kind: "finished"; readonly state: TrainingState; readonly after: EvaluationResult | null }
  | { readonly kind: "stopped" | "aborted"; readonly state: TrainingState };

/**
 * One fine-tuning run, from where its last checkpoint left it to its last step.
 *
 * All that the loop remembers is `TrainingState`, the trainer's tensors and the rows' cursor; each is part of every
 * checkpoint, so a run that was killed and resumed takes the same steps as one that never was.
 *
 * @throws DivergedError when the loss is not finite for three steps in a row, or at the end
 */
export async function train(run: TrainingRun): Promise<TrainingOutcome> {
  const { control, listener } = run;
  const state = await resume(run);
  await evaluateBefore(run, state);
  await control.agree();

  listener.phaseChanged("training");
  while (state.step < run.totalSteps && control.request === null) {
    await takeStep(run, state);
    await control.agree();
    const isBest = await evaluateIfDue(run, state);
    await saveIfDue(run, state, isBest);
  }

  if (control.request === "abort") return { kind: "aborted", state };
  if (control.request === null && state.nonFiniteLosses > 0) throw divergence(run, state);
  await save(run, state, false);
  if (control.request === "stop") return { kind: "stopped", state };
  const after = await evaluate(run, state, "after");
  if (control.request !== null) return { kind: control.request === "stop" ? "stopped" : "aborted", state };
  return { kind: "finished", state, after };
}

/** The state to go on from: the newest checkpoint that can be used, or the start. */
async function resume(run: TrainingRun): Promise<TrainingState> {
  run.listener.phaseChanged("loading");
  const state = await run.checkpoints.restoreLatest(run.trainer, (message) => run.listener.log("warn", message));
  if (state === null) return await begin(run);
  run.rows.restore(state.dataCursor);
  run.listener.retell?.(state.untold);
  run.listener.log("info", `resumed after step ${state.step}`);
  return state;
}

/** The state before the first step, with the weights that the spec begins from. */
async function begin({ spec, trainer, checkpoints, rows, listener }: TrainingRun): Promise<TrainingState> {
  const state = initialState(rows.state());
  const { run, step } = spec.warmStart ?? {};
  if (run === undefined || step === undefined) return state;
  state.warmStart = await checkpoints.startFrom(trainer, { run, step });
  listener.log("info", `begins with the weights of run ${run} after step ${step}`);
  return state;
}

async function takeStep(run: TrainingRun, state: TrainingState): Promise<void> {
  const startedMs = run.clock.now();
  const rows = await run.rows.next();
  const measure = await run.trainer.step(rows, state.step + 1);
  const seconds = (run.clock.now() - startedMs) / 1000;

  state.step += 1;
  state.dataCursor = run.rows.state();
  state.tokens += measure.tokens;
  state.rows += rows.length;
  state.trainingSeconds += seconds;
  rememberLoss(state, measure);
  run.listener.stepFinished({
    step: state.step,
    ...measure,
    seconds,
    memoryBytes: run.clock.peakMemoryBytes(),
    epoch: state.rows / run.rows.rowsPerEpoch,
  });
  if (state.nonFiniteLosses >= toleratedNonFiniteLosses) throw divergence(run, state);
}

function divergence({ spec }: TrainingRun, { step, nonFiniteLosses, best }: TrainingState): DivergedError {
  return new DivergedError(step, nonFiniteLosses, learningRateOf(spec), best?.step ?? null);
}

function rememberLoss(state: TrainingState, { loss, gradientNorm }: StepMeasure): void {
  if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
    state.nonFiniteLosses += 1;
    return;
  }
  state.nonFiniteLosses = 0;
  state.recentLosses = [...state.recentLosses, loss].slice(-rememberedLosses);
}

async function evaluateBefore(run: TrainingRun, state: TrainingState): Promise<void> {
  if (!run.spec.evaluation.before || state.before !== null || state.step > 0) return;
  const result = await evaluate(run, state, "before");
  state.before = result?.scores ?? null;
}

/** Evaluates when it is time; true when this step is the best so far. */
async function evaluateIfDue(run: TrainingRun, state: TrainingState): Promise<boolean> {
  const { everySteps, atSteps } = run.spec.evaluation;
  const isDue = (everySteps > 0 && state.step % everySteps === 0) || (atSteps?.includes(state.step) ?? false);
  if (!isDue || state.step >= run.totalSteps) return false;
  const result = await evaluate(run, state, "during");
  run.listener.phaseChanged("training");
  if (result === null || (state.best !== null && result.headline.score <= state.best.score)) return false;
  state.best = { step: state.step, ...result.headline };
  return true;
}

/** Null when there is nothing to evaluate on, or when the run was asked to end meanwhile. */
async function evaluate(
  run: TrainingRun,
  state: TrainingState,
  phase: EvaluationPhase,
): Promise<EvaluationResult | null> {
  if (run.evaluator === null) return null;
  run.listener.phaseChanged(`evaluating-${phase}`);
  await run.trainer.gather?.();
  const result = await run.evaluator.evaluate(run.trainer, phase, state.step, run.control.signal);
  await run.control.agree();
  if (result !== null)
    run.listener.evaluationFinished({
      phase,
      step: state.step,
      scores: result.scores,
      samples: result.samples,
      seconds: result.seconds,
      resultsKey: result.resultsKey,
    });
  return result;
}

async function saveIfDue(run: TrainingRun, state: TrainingState, isBest: boolean): Promise<void> {
  const { everySteps, keepBest } = run.spec.checkpoint;
  if (state.step % everySteps === 0 || (isBest && keepBest) || run.control.isCheckpointWanted)
    await save(run, state, isBest);
}

/** Saves the state, unless weights of this very step are in storage already or have gone bad. */
async function save(run: TrainingRun, state: TrainingState, isBest: boolean): Promise<void> {
  if (run.checkpoints.lastSavedStep === state.step || state.nonFiniteLosses > 0) return;
  state.untold = run.listener.untold?.() ?? nothingUntold;
  const saved = await run.checkpoints.save(run.trainer, state);
  run.control.checkpointSaved();
  run.listener.checkpointSaved(saved, isBest);
}
