import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { EngineTrainer, ModelBatch } from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import type { DataRecord } from "@drydock/spec";
import { UnusableCheckpointError } from "../checkpoint/unusable-checkpoint-error.ts";
import { BadDataError } from "../failure.ts";
import type { AnswerOptions, Question, StepMeasure, Trainer } from "../training/trainer.ts";
import { answerWith } from "./answer-questions.ts";
import { readOptimizer, writeOptimizer } from "./optimizer-file.ts";
import type { RecordEncoder } from "./record-encoder.ts";
import { filesIn, nameAsShards, readTrainedWeights } from "./weight-files.ts";

export interface TrainerSettings {
  readonly mode: "lora" | "full";
  readonly microBatchSize: number;
  /** What the adapter's config calls its base. */
  readonly base: string;
}

/** The engine's trainer behind the loop's narrow interface. */
export class EngineBackedTrainer implements Trainer {
  readonly #engine: EngineTrainer;
  readonly #encoder: RecordEncoder;
  readonly #settings: TrainerSettings;

  constructor(engine: EngineTrainer, encoder: RecordEncoder, settings: TrainerSettings) {
    this.#engine = engine;
    this.#encoder = encoder;
    this.#settings = settings;
  }

  async check(
    trainRows: readonly DataRecord[],
    questions: readonly DataRecord[],
    { maxNewTokens }: AnswerOptions,
  ): Promise<void> {
    await this.#encoder.checkWindow(trainRows, null);
    await this.#encoder.checkWindow(questions, maxNewTokens);
  }

  async step(rows: readonly DataRecord[]): Promise<StepMeasure> {
    let tokens = 0;
    try {
      const { loss, learningRate, gradientNorm } = await this.#engine.step(
        this.#microBatches(rows, (batch) => (tokens += tokensOf(batch))),
      );
      return { loss, learningRate, gradientNorm, tokens };
    } catch (error) {
      if (!(error instanceof InvalidError) || error instanceof BadDataError) throw error;
      const names = rows.map(({ source }) => `${source.file}, line ${source.row}`).join("; ");
      throw new BadDataError(`${error.message} (rows of this step: ${names})`, { cause: error });
    }
  }

  async save(directory: string): Promise<string[]> {
    await this.#writeWeights(directory);
    if (this.#settings.mode === "full") await nameAsShards(directory);
    await writeOptimizer(directory, this.#engine.state());
    return await filesIn(directory);
  }

  async restore(directory: string): Promise<void> {
    const { tensors } = this.#engine.state();
    const weights = await readTrainedWeights(
      directory,
      this.#settings.mode,
      tensors.map(({ name }) => name),
    );
    const moments = await readOptimizer(directory);
    const restored = tensors.map(({ name, shape }) => {
      const values = weights.get(name);
      const own = moments.of(name);
      if (!values || !own)
        throw new UnusableCheckpointError(directory, `it does not hold ${name}; was the run spec changed?`);
      return { name, shape, values, ...own };
    });
    this.#engine.restore({ step: moments.step, tensors: restored });
  }

  async answer(questions: readonly Question[], options: AnswerOptions): Promise<string[]> {
    return await answerWith(await this.#engine.generator(), this.#encoder, questions, options);
  }

  async publish(directory: string): Promise<string[]> {
    await this.#writeWeights(directory);
    return await filesIn(directory);
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }

  /** Micro-batches in order; the next one is decoded while the engine works on this one. At most two are in memory. */
  async *#microBatches(rows: readonly DataRecord[], count: (batch: ModelBatch) => void): AsyncIterable<ModelBatch> {
    const { microBatchSize } = this.#settings;
    const begin = (start: number): Promise<ModelBatch> => {
      const batch = this.#encoder.trainingBatch(rows.slice(start, start + microBatchSize));
      batch.catch(() => undefined); // thrown where it is awaited, unless the step failed before
      return batch;
    };
    let upcoming = begin(0);
    for (let next = microBatchSize; next < rows.length + microBatchSize; next += microBatchSize) {
      const batch = await upcoming;
      if (next < rows.length) upcoming = begin(next);
      count(batch);
      yield batch;
    }
  }

  async #writeWeights(directory: string): Promise<void> {
    await this.#engine.save(directory);
    if (this.#settings.mode === "lora") await nameBase(join(directory, "adapter_config.json"), this.#settings.base);
  }
}

/** The engine knows its base only as a folder; the adapter must name what others can find. */
async function nameBase(path: string, base: string): Promise<void> {
  const config = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
  await writeFile(path, `${JSON.stringify({ ...config, base_model_name_or_path: base }, null, 2)}\n`);
}

function tokensOf({ attentionMask }: ModelBatch): number {
  return attentionMask.reduce((sum, bit) => sum + bit, 0);
}
