import type { Collective } from "@drydock/engine";
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
import { AgreedControl } from "../ranks/agreed-control.ts";
import { RankGroup } from "../ranks/rank-group.ts";
import type { OpenStages } from "../ranks/watched-pipeline.ts";
import { SharedEvaluator } from "../ranks/shared-evaluator.ts";
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
  /** The ranks that train together; null when this one is alone. */
  readonly collective: Collective | null;
  /** Connects the ranks as stages of a pipeline. */
  readonly openStages?: OpenStages;
}

/** A whole run as one rank sees it: claim the attempt, train, evaluate, publish. Rank 0 claims, evaluates and publishes. */
export async function runTraining(setup: TrainingSetup): Promise<TrainingOutcome> {
  const { config, folder, listener } = setup;
  const group = new RankGroup(setup.collective);
  await group.byFirst(async () => await claimed(folder));
  listener.phaseChanged("loading");
  const trainRecords = setup.records.filter(({ split }) => split === "train");
  if (trainRecords.length === 0)
    throw new BadDataError(
      "the data set has no rows in its train split: import it again with a smaller validationShare",
    );
  const trainer = await setup.engine.openTrainer(config, setup.pathOf, setup.collective, setup.openStages);
  try {
    const questions = setup.records.filter(({ split }) => split === "validation");
    await trainer.check(trainRecords, questions, config.spec.evaluation);
    const outcome = await train({
      spec: config.spec,
      totalSteps: config.totalSteps,
      trainer,
      rows: setup.engine.rowsOf(config, trainRecords),
      evaluator: evaluatorOf(setup, group),
      checkpoints: new CheckpointStore({
        folder,
        group,
        scratchDirectory: setup.scratchDirectory,
        spec: config.spec,
        diskRetry: setup.diskRetry,
        now: () => new Date(),
      }),
      control: setup.collective ? new AgreedControl(setup.control, group) : setup.control,
      listener,
      clock: { now: () => performance.now(), peakMemoryBytes },
    });
    if (outcome.kind === "finished" && group.isFirst) {
      const scores = { before: outcome.state.before, after: outcome.after?.scores ?? null };
      const card = modelCardOf({
        config,
        baseDigest: await baseDigestOf(config.modelDirectory),
        step: outcome.state.step,
        warmStart: outcome.state.warmStart,
        scores,
      });
      listener.phaseChanged("saving");
      await publishModel(folder, setup.modelKey, trainer, card, {
        directory: setup.scratchDirectory,
        diskRetry: setup.diskRetry,
      });
    }
    // Nobody counts as done before the model is in storage.
    await setup.collective?.barrier();
    return outcome;
  } finally {
    await trainer.close();
  }
}

async function claimed(folder: RunFolder): Promise<true> {
  await claimEpoch(folder, process.pid);
  return true;
}

/** Null when the data has no validation split. */
function evaluatorOf({ config: { spec }, folder, records }: TrainingSetup, group: RankGroup): Evaluator | null {
  const validation = records.filter(({ split }) => split === "validation");
  if (validation.length === 0) return null;
  const { metrics, score } = scorerOf(spec.task, spec.evaluation.metrics);
  const evaluator = new ValidationEvaluator({
    storage: group.isFirst ? folder.storage : null,
    records: validation,
    resultsKeyOf: (phase, step) => `${folder.prefix}evaluations/${phase}-${step}.jsonl`,
    metrics,
    maxSamplesDuring: spec.evaluation.maxSamples ?? null,
    maxNewTokens: spec.evaluation.maxNewTokens,
    batchSize: answeredAtOnce * group.worldSize,
    score,
    nowMs: () => performance.now(),
  });
  return group.collective ? new SharedEvaluator(evaluator, group) : evaluator;
}

/** Peak resident memory of this process since it started. */
function peakMemoryBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
