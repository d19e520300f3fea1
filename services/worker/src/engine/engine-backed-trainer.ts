import type { EngineTrainer } from "@drydock/engine";
import { UnusableCheckpointError } from "../checkpoint/unusable-checkpoint-error.ts";
import type { DataRecord } from "@drydock/spec";
import type { AnswerOptions, Question, StepMeasure, Trainer } from "../training/trainer.ts";
import { answerWith } from "./answer-questions.ts";
import { readOptimizer, writeOptimizer } from "./optimizer-file.ts";
import type { RecordEncoder } from "./record-encoder.ts";
import { filesIn, nameAsShards, readTrainedWeights } from "./weight-files.ts";

/** The engine's trainer behind the loop's narrow interface. */
export class EngineBackedTrainer implements Trainer {
  readonly #engine: EngineTrainer;
  readonly #encoder: RecordEncoder;
  readonly #mode: "lora" | "full";
  readonly #microBatchSize: number;

  constructor(
    engine: EngineTrainer,
    encoder: RecordEncoder,
    settings: { readonly mode: "lora" | "full"; readonly microBatchSize: number },
  ) {
    this.#engine = engine;
    this.#encoder = encoder;
    this.#mode = settings.mode;
    this.#microBatchSize = settings.microBatchSize;
  }

  async step(rows: readonly DataRecord[]): Promise<StepMeasure> {
    const batches = [];
    for (let start = 0; start < rows.length; start += this.#microBatchSize) {
      batches.push(await this.#encoder.trainingBatch(rows.slice(start, start + this.#microBatchSize)));
    }
    const { loss, learningRate, gradientNorm } = await this.#engine.step(batches);
    const tokens = batches.reduce(
      (sum, { attentionMask }) => sum + attentionMask.reduce((count, bit) => count + bit, 0),
      0,
    );
    return { loss, learningRate, gradientNorm, tokens };
  }

  async save(directory: string): Promise<string[]> {
    await this.#engine.save(directory);
    if (this.#mode === "full") await nameAsShards(directory);
    await writeOptimizer(directory, this.#engine.state());
    return await filesIn(directory);
  }

  async restore(directory: string): Promise<void> {
    const { tensors } = this.#engine.state();
    const names = tensors.map(({ name }) => name);
    const weights = await readTrainedWeights(directory, this.#mode, names);
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
    await this.#engine.save(directory);
    return await filesIn(directory);
  }

  async close(): Promise<void> {
    await this.#engine.close();
  }
}
