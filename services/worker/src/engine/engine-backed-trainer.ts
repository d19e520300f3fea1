import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Collective, EngineTrainer, ModelBatch, PipelineStage, TrainerState } from "@drydock/engine";
import { InvalidError } from "@drydock/kit";
import type { BoxSpace } from "@drydock/data";
import type { DataRecord } from "@drydock/spec";
import { UnusableCheckpointError } from "../checkpoint/unusable-checkpoint-error.ts";
import { BadDataError } from "../failure.ts";
import type { AnswerOptions, Question, StepMeasure, Trainer } from "../training/trainer.ts";
import { answerWith } from "./answer-questions.ts";
import { optimizerPartOf, readOptimizer, writeOptimizer } from "./optimizer-file.ts";
import type { RecordEncoder } from "./record-encoder.ts";
import { filesIn, nameAsShards, readTrainedWeights } from "./weight-files.ts";

export interface TrainerSettings {
  readonly mode: "lora" | "full";
  readonly microBatchSize: number;
  /** What the adapter's config calls its base. */
  readonly base: string;
  /** The ranks that train together; null when this one is alone. */
  readonly collective: Collective | null;
  /** This rank's stage, where ranks share the model layer by layer; closed with the trainer. */
  readonly pipeline: (PipelineStage & { close(): Promise<void> }) | null;
  /** Whether each rank holds its part of the optimizer only. */
  readonly isOptimizerSharded: boolean;
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
    // Each rank looks at every n-th row: decoding pictures takes its time.
    await this.#encoder.checkWindow(this.#everyOther(trainRows), null);
    await this.#encoder.checkWindow(this.#everyOther(questions), maxNewTokens);
  }

  async step(globalBatch: readonly DataRecord[]): Promise<StepMeasure> {
    const firstRow = this.#firstRow(globalBatch, this.#dataRank);
    const rows = globalBatch.slice(firstRow, this.#firstRow(globalBatch, this.#dataRank + 1));
    const tokens = Float64Array.of(0);
    try {
      const batches = this.#microBatches(rows, (batch) => (tokens[0] = (tokens[0] as number) + tokensOf(batch)));
      const { loss, learningRate, gradientNorm } = await this.#engine.step(batches, firstRow);
      // All stages see the rows; one of them counts.
      if ((this.#settings.pipeline?.stage ?? 0) > 0) tokens[0] = 0;
      await this.#settings.collective?.allReduceSum([tokens]);
      return { loss, learningRate, gradientNorm, tokens: tokens[0] as number };
    } catch (error) {
      if (!(error instanceof InvalidError) || error instanceof BadDataError) throw error;
      const names = rows.map(({ source }) => `${source.file}, line ${source.row}`).join("; ");
      throw new BadDataError(`${error.message} (rows of this step: ${names})`, { cause: error });
    }
  }

  async save(directory: string): Promise<string[]> {
    const { mode } = this.#settings;
    await this.#engine.gather();
    if (this.#rank === 0) {
      await this.#writeWeights(directory);
      if (mode === "full") await nameAsShards(directory);
    }
    if (this.#holdsOptimizerPart) await writeOptimizer(directory, this.#rank, this.#engine.state(), this.#stages);
    return await filesIn(directory);
  }

  async restore(directory: string): Promise<void> {
    const tensors = await this.#weightsIn(directory);
    this.#engine.restore({ ...(await readOptimizer(directory)), tensors });
  }

  async startFrom(directory: string): Promise<void> {
    const tensors = await this.#weightsIn(directory);
    this.#engine.restore({ step: 0, tensors, moments: this.#engine.state().moments });
  }

  needsToRestore(file: string, worldSize: number): boolean {
    const part = optimizerPartOf(file);
    // Cut for the ranks that there are now, the optimizer's parts are each of use to one rank.
    const isCutAlike = part?.stages === 1 && this.#stages === 1 && worldSize === this.#worldSize;
    return !part || !this.#settings.isOptimizerSharded || !isCutAlike || part.rank === this.#rank;
  }

  async gather(): Promise<void> {
    await this.#engine.gather();
  }

  boxSpaceOf(record: DataRecord): BoxSpace {
    return this.#encoder.boxSpaceOf(record);
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
    await this.#settings.pipeline?.close();
  }

  get #rank(): number {
    return this.#settings.collective?.rank ?? 0;
  }

  get #worldSize(): number {
    return this.#settings.collective?.worldSize ?? 1;
  }

  get #stages(): number {
    return this.#settings.pipeline?.stages ?? 1;
  }

  get #dataRank(): number {
    return this.#settings.pipeline?.dataRank ?? this.#rank;
  }

  /** Whether this rank holds moments that no rank before it holds. */
  get #holdsOptimizerPart(): boolean {
    return this.#dataRank === 0 || this.#settings.isOptimizerSharded;
  }

  /** Position in the global batch of the first row of a data rank. */
  #firstRow(globalBatch: readonly DataRecord[], dataRank: number): number {
    const dataRanks = this.#worldSize / this.#stages;
    return Math.floor((globalBatch.length * dataRank) / dataRanks);
  }

  #everyOther(rows: readonly DataRecord[]): readonly DataRecord[] {
    return rows.filter((_, index) => index % this.#worldSize === this.#rank);
  }

  /** Micro-batches in order; the next one is decoded while the engine works on this one. At most two are in memory. */
  async *#microBatches(rows: readonly DataRecord[], count: (batch: ModelBatch) => void): AsyncIterable<ModelBatch> {
    const { microBatchSize } = this.#settings;
    const begin = (start: number): Promise<ModelBatch> => {
      const batch = this.#encoder.trainingBatch(rows.slice(start, start + microBatchSize));
      batch.catch(() => undefined); // thrown where it is awaited, unless the step failed before
      return batch;
    };
    if (rows.length === 0) return;
    let upcoming = begin(0);
    for (let next = microBatchSize; next < rows.length + microBatchSize; next += microBatchSize) {
      const batch = await upcoming;
      if (next < rows.length) upcoming = begin(next);
      count(batch);
      yield batch;
    }
  }

  /** The weights of a checkpoint, for each tensor that is trained. */
  async #weightsIn(directory: string): Promise<TrainerState["tensors"]> {
    const { tensors } = this.#engine.state();
    const names = tensors.map(({ name }) => name);
    const weights = await readTrainedWeights(directory, this.#settings.mode, names);
    return tensors.map(({ name, shape }) => {
      const values = weights.get(name);
      if (!values) throw new UnusableCheckpointError(directory, `it does not hold ${name}; was the run spec changed?`);
      return { name, shape, values };
    });
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
