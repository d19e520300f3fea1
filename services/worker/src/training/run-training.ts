import type { RetryPolicy } from "@drydock/kit";
import type { DataRecord, RecordImage, WorkerConfig } from "@drydock/spec";
import { CheckpointStore } from "../checkpoint/checkpoint-store.ts";
import { claimEpoch } from "../checkpoint/fence.ts";
import type { RunFolder } from "../checkpoint/run-folder.ts";
import type { Evaluator } from "../evaluation/evaluator.ts";
import { ValidationEvaluator, answeredAtOnce } from "../evaluation/validation-evaluator.ts";
import { BadDataError } from "../failure.ts";
import { scorerOf } from "../evaluation/score-answers.ts";
import { baseDigestOf } from "../publish/base-digest.ts";
import { modelCardOf, publishModel } from "../publish/publish-model.ts";
import type { EngineDoors } from "./engine-doors.ts";
import type { RunControl } from "./run-control.ts";
import { train, type TrainingOutcome } from "./train.ts";
import type { TrainingListener } from "./training-listener.ts";

export interface TrainingSetup {
  readonly config: WorkerConfig;
  readonly folder: RunFolder;
  /** Key prefix that the finished model's files get, without a slash at its end. */
  readonly modelKey: string;
  readonly records: readonly DataRecord[];
  readonly pathOf: (image: RecordImage) => Promise<string>;
  readonly engine: EngineDoors;
  readonly scratchDirectory: string;
  readonly diskRetry: RetryPolicy;
  readonly listener: TrainingListener;
  readonly control: RunControl;
}

/** A whole run on this machine: claim the attempt, train, evaluate, publish. */
export async function runTraining(setup: TrainingSetup): Promise<TrainingOutcome> {
  const { config, folder, listener } = setup;
  await claimEpoch(folder, process.pid);
  listener.phaseChanged("loading");
  const trainRecords = setup.records.filter(({ split }) => split === "train");
  if (trainRecords.length === 0)
    throw new BadDataError(
      "the data set has no rows in its train split: import it again with a smaller validationShare",
    );
  const trainer = await setup.engine.openTrainer(config, setup.pathOf, null);
  try {
    const questions = setup.records.filter(({ split }) => split === "validation");
    await trainer.check(trainRecords, questions, config.spec.evaluation);
    const outcome = await train({
      spec: config.spec,
      totalSteps: config.totalSteps,
      trainer,
      rows: setup.engine.rowsOf(config, trainRecords),
      evaluator: evaluatorOf(setup),
      checkpoints: new CheckpointStore({
        folder,
        scratchDirectory: setup.scratchDirectory,
        spec: config.spec,
        diskRetry: setup.diskRetry,
        now: () => new Date(),
      }),
      control: setup.control,
      listener,
      clock: { now: () => performance.now(), peakMemoryBytes },
    });
    if (outcome.kind === "finished") {
      const scores = { before: outcome.state.before, after: outcome.after?.scores ?? null };
      const card = modelCardOf({
        config,
        baseDigest: await baseDigestOf(config.modelDirectory),
        step: outcome.state.step,
        scores,
      });
      listener.phaseChanged("saving");
      await publishModel(folder, setup.modelKey, trainer, card, {
        directory: setup.scratchDirectory,
        diskRetry: setup.diskRetry,
      });
    }
    return outcome;
  } finally {
    await trainer.close();
  }
}

/** Null when the data has no validation split. */
function evaluatorOf({ config: { spec }, folder, records }: TrainingSetup): Evaluator | null {
  const validation = records.filter(({ split }) => split === "validation");
  if (validation.length === 0) return null;
  const { metrics, score } = scorerOf(spec.task, spec.evaluation.metrics);
  return new ValidationEvaluator({
    storage: folder.storage,
    records: validation,
    resultsKeyOf: (phase, step) => `${folder.prefix}evaluations/${phase}-${step}.jsonl`,
    metrics,
    maxSamplesDuring: spec.evaluation.maxSamples ?? null,
    maxNewTokens: spec.evaluation.maxNewTokens,
    batchSize: answeredAtOnce,
    score,
    nowMs: () => performance.now(),
  });
}

/** Peak resident memory of this process since it started. */
function peakMemoryBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
