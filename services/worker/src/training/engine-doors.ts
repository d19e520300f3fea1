import type { Collective } from "@drydock/engine";
import type { DataRecord, EvaluationWorkerConfig, RecordImage, WorkerConfig } from "@drydock/spec";
import type { OpenStages } from "../ranks/watched-pipeline.ts";
import type { Answerer, RowSource, Trainer } from "./trainer.ts";

/** The engine's doors, narrow enough for a test to stand in. */
export interface EngineDoors {
  /**
   * @param collective  the ranks that train together; null when this one is alone
   * @param openStages  connects them as stages, when the layout has several
   */
  openTrainer(
    config: WorkerConfig,
    pathOf: (image: RecordImage) => Promise<string>,
    collective: Collective | null,
    openStages?: OpenStages,
  ): Promise<Trainer>;
  /** A model that only answers. */
  openAnswerer(
    config: EvaluationWorkerConfig,
    pathOf: (image: RecordImage) => Promise<string>,
  ): Promise<Answerer & Pick<Trainer, "close">>;
  /** The order of the training split. */
  rowsOf(config: WorkerConfig, records: readonly DataRecord[]): RowSource;
}
