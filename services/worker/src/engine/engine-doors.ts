import { availableParallelism } from "node:os";
import { EngineTrainer, defaultBlockSize, type Collective, type QuantizationSettings } from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import { learningRateOf, type Layout, type RunSpec } from "@drydock/spec";
import type { EngineDoors } from "../training/engine-doors.ts";
import { answerWith } from "./answer-questions.ts";
import { EngineBackedTrainer } from "./engine-backed-trainer.ts";
import { openForAnswers } from "./open-for-answers.ts";
import { checkAdapter } from "./check-adapter.ts";
import { deviceFrom } from "./device-choice.ts";
import { RecordEncoder } from "./record-encoder.ts";
import { RecordRows } from "./record-rows.ts";

/** @throws InvalidError when the ranks that are there are not those of the layout */
function checkLayout({ dataParallel, pipelineStages }: Layout, collective: Collective | null): void {
  const worldSize = collective?.worldSize ?? 1;
  if (dataParallel * pipelineStages === worldSize) return;
  const stages = pipelineStages > 1 ? ` of ${pipelineStages} stages each` : "";
  throw new InvalidError(
    "unsupported_layout",
    `the layout is for ${dataParallel} ranks${stages}, but ${worldSize} were started: this is a fault of the controller or of its back end`,
  );
}

/** How the spec wants the frozen base: as its files have it, or its decoder rounded as it is read (QLoRA). */
function quantizationOf({ training: { baseWeights } }: RunSpec): { quantize?: QuantizationSettings } {
  return baseWeights === "bf16" ? {} : { quantize: { format: baseWeights, blockSize: defaultBlockSize } };
}

/** The real engine. */
export const engineDoors: EngineDoors = {
  openTrainer: async ({ spec, ...config }, pathOf, collective, openStages) => {
    checkLayout(config.layout, collective);
    const { betas, epsilon, weightDecay, maxGradientNorm, schedule, warmupRatio, seed, lora } = spec.training;
    if (config.adapterDirectory !== undefined) await checkAdapter(config.adapterDirectory, config.modelDirectory, spec);
    const isOptimizerSharded = collective !== null && config.layout.sharding === "optimizer";
    const { pipelineStages } = config.layout;
    const pipeline = pipelineStages > 1 && openStages ? await openStages(pipelineStages) : null;
    const threads = config.threads ?? availableParallelism();
    const device = deviceFrom(process.env, threads);
    const engine = await EngineTrainer.open({
      ...(device ? { device } : {}),
      ...(pipeline === null ? {} : { pipeline }),
      ...(collective === null ? {} : { collective, shardOptimizer: isOptimizerSharded }),
      ...(config.adapterDirectory === undefined ? {} : { adapterDirectory: config.adapterDirectory }),
      directory: config.modelDirectory,
      mode: spec.mode,
      ...quantizationOf(spec),
      lora,
      optimizer: { betas, epsilon, weightDecay, maxGradientNorm },
      // `constant` is the reference's: without warm-up (`get_constant_schedule` of huggingface/transformers).
      schedule: {
        kind: schedule,
        learningRate: learningRateOf(spec),
        warmupRatio: schedule === "constant" ? 0 : warmupRatio,
        totalSteps: config.totalSteps,
      },
      seed,
      recomputes: config.layout.recomputeActivations,
      threads,
    });
    const encoder = await RecordEncoder.open({
      directory: config.modelDirectory,
      model: engine.model,
      image: spec.image,
      systemPrompt: config.systemPrompt,
      pathOf,
    });
    const base = typeof spec.model === "string" ? spec.model : spec.model.uri;
    return new EngineBackedTrainer(engine, encoder, {
      mode: spec.mode,
      microBatchSize: config.layout.microBatchSize,
      base,
      collective,
      pipeline,
      isOptimizerSharded,
    });
  },

  openAnswerer: async ({ spec, modelDirectory, adapterDirectory, systemPrompt, threads }, pathOf) => {
    const { generator, encoder } = await openForAnswers({
      directory: modelDirectory,
      adapterDirectory: adapterDirectory ?? undefined,
      image: spec.image,
      systemPrompt,
      threads,
      pathOf,
    });
    return {
      answer: async (questions, options) => await answerWith(generator, encoder, questions, options),
      boxSpaceOf: (record) => encoder.boxSpaceOf(record),
      close: async () => await generator.close(),
    };
  },

  rowsOf: ({ spec }, records) =>
    new RecordRows(records, {
      order: spec.order,
      seed: spec.training.seed,
      globalBatchSize: spec.training.globalBatchSize,
    }),
};
