import type { ObjectStorage } from "@drydock/kit";
import type { DataRecord, EvaluationShard, EvaluationWorkerConfig, RecordImage } from "@drydock/spec";
import { BadDataError } from "../failure.ts";
import { scorerOf } from "./score-answers.ts";
import { refuseOtherBase } from "../publish/check-base.ts";
import { chooseImageSettings, choosePrompt, readModelCard } from "../publish/model-card.ts";
import type { EngineDoors } from "../training/engine-doors.ts";
import type { TrainingListener } from "../training/training-listener.ts";
import type { EvaluationResult } from "./evaluator.ts";
import { ValidationEvaluator, answeredAtOnce, evenly } from "./validation-evaluator.ts";

export interface EvaluationSetup {
  readonly config: EvaluationWorkerConfig;
  readonly storage: ObjectStorage;
  readonly resultsKey: string;
  readonly records: readonly DataRecord[];
  readonly pathOf: (image: RecordImage) => Promise<string>;
  readonly engine: EngineDoors;
  readonly listener: TrainingListener;
  readonly signal: AbortSignal;
}

/** An evaluation of its own: a model, with or without an adapter, on the validation split. Null when `signal` ended it. */
export async function runEvaluation(setup: EvaluationSetup): Promise<EvaluationResult | null> {
  const { config, listener } = setup;
  const { spec } = config;
  listener.phaseChanged("loading");
  const validation = setup.records.filter(({ split }) => split === "validation");
  if (validation.length === 0)
    throw new BadDataError(
      "the data set has no rows in its validation split: import it again with a larger validationShare",
    );
  const { metrics, score } = scorerOf(spec.task, spec.metrics);
  const evaluator = new ValidationEvaluator({
    storage: setup.storage,
    records: inShard(spec.maxSamples === undefined ? validation : evenly(validation, spec.maxSamples), config.shard),
    resultsKeyOf: () => setup.resultsKey,
    metrics,
    maxSamplesDuring: null,
    maxNewTokens: spec.maxNewTokens,
    batchSize: answeredAtOnce,
    score,
    nowMs: () => performance.now(),
  });
  if (config.adapterDirectory) await refuseOtherBase(config.adapterDirectory, config.modelDirectory);
  const model = await setup.engine.openAnswerer(await withStoredSettings(config, listener), setup.pathOf);
  try {
    listener.phaseChanged("evaluating-after");
    const result = await evaluator.evaluate(model, "after", 0, setup.signal);
    if (result)
      listener.evaluationFinished({
        phase: "standalone",
        step: 0,
        scores: result.scores,
        samples: result.samples,
        seconds: result.seconds,
        resultsKey: result.resultsKey,
      });
    return result;
  } finally {
    await model.close();
  }
}

/** The rows of one shard; the controller puts those of all shards together in the order of the split. */
export function inShard<T>(rows: readonly T[], shard: EvaluationShard | undefined): readonly T[] {
  return shard === undefined ? rows : rows.filter((_, index) => index % shard.count === shard.index);
}

/** The picture settings that the model was trained with, where the evaluation names none; what differs is warned about. */
async function withStoredSettings(
  config: EvaluationWorkerConfig,
  listener: TrainingListener,
): Promise<EvaluationWorkerConfig> {
  const card = await readModelCard(config.adapterDirectory ?? config.modelDirectory);
  const { image, warnings } = chooseImageSettings(card, config.spec.image);
  for (const warning of [...choosePrompt(card, config.systemPrompt).warnings, ...warnings])
    listener.log("warn", warning);
  return { ...config, spec: { ...config.spec, image } };
}
