import type { DataRecord, EvaluationWorkerConfig, RecordImage, WorkerConfig } from "@drydock/spec";
import type { Scoring } from "../evaluation/validation-evaluator.ts";
import type { RowSource, Trainer } from "./trainer.ts";

/** The engine's doors, narrow enough for a test to stand in. */
export interface EngineDoors {
  openTrainer(config: WorkerConfig, pathOf: (image: RecordImage) => Promise<string>): Promise<Trainer>;
  /** A model that only answers. */
  openAnswerer(
    config: EvaluationWorkerConfig,
    pathOf: (image: RecordImage) => Promise<string>,
  ): Promise<Pick<Trainer, "answer" | "close">>;
  /** The order of the training split. */
  rowsOf(config: WorkerConfig, records: readonly DataRecord[]): RowSource;
  /** Scores answers by the task's metrics. */
  scorerOf(
    task: WorkerConfig["spec"]["task"],
    metrics: readonly string[] | undefined,
  ): {
    readonly metrics: readonly string[];
    readonly score: (records: readonly DataRecord[], answers: readonly string[]) => Scoring;
  };
}
