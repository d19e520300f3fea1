import type { BoxSpace } from "@drydock/data";
import type { DataCursor, DataRecord } from "@drydock/spec";

/** What one optimizer step measured. */
export interface StepMeasure {
  /** Mean over the trained tokens of the global batch, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  /** Global L2 norm before clipping. */
  readonly gradientNorm: number;
  /** Tokens of the global batch, pictures included, padding left out. */
  readonly tokens: number;
}

/** A question to the model: the turns of a record up to the answer. */
export interface Question {
  readonly record: DataRecord;
}

export interface AnswerOptions {
  readonly maxNewTokens: number;
}

/**
 * What the loop needs of an engine, and no more: one rank's model with its optimizer. Every method leaves the trainer
 * usable when it throws. Same calls, same numbers: nothing inside depends on the clock or on chance.
 */
export interface Trainer {
  /** Refuses rows that could not be trained on or answered, before any step. @throws BadDataError naming the row */
  check(trainRows: readonly DataRecord[], questions: readonly DataRecord[], options: AnswerOptions): Promise<void>;
  /**
   * One optimizer step on the rows of the global batch; a rank among several takes its part of them. `step` counts from 1;
   * seeds of dropout derive from it.
   */
  step(rows: readonly DataRecord[], step: number): Promise<StepMeasure>;
  /**
   * Writes the trainable weights and the optimizer into `directory`; answers the names of the files, in order. A rank after
   * the first writes what only it holds.
   */
  save(directory: string): Promise<string[]>;
  /** Takes weights and optimizer from a folder that `save` wrote. */
  restore(directory: string): Promise<void>;
  /** Takes the weights alone from a folder that `save` wrote, for another run: the optimizer stays as it is before the first step. */
  startFrom(directory: string): Promise<void>;
  /** Whether `restore` needs a file of a checkpoint that `worldSize` ranks wrote. */
  needsToRestore(file: string, worldSize: number): boolean;
  /** Brings the weights of all stages to every rank, where ranks share the model. Every rank calls it before any answers. */
  gather?(): Promise<void>;
  /** Greedy answers, in the order of the questions. */
  answer(questions: readonly Question[], options: AnswerOptions): Promise<string[]>;
  /** How the model writes boxes for the (first) picture of a record. */
  boxSpaceOf(record: DataRecord): BoxSpace;
  /** Writes the finished model in Hugging Face or PEFT layout; answers the names of the files. */
  publish(directory: string): Promise<string[]>;
  close(): Promise<void>;
}

/** What evaluations need of a model. */
export type Answerer = Pick<Trainer, "answer" | "boxSpaceOf">;

/** The rows of a run in their order, batch by batch, for ever. */
export interface RowSource {
  /** Rows of the next global batch. */
  next(): Promise<readonly DataRecord[]>;
  /** Where the next batch starts. */
  state(): DataCursor;
  restore(cursor: DataCursor): void;
  /** Rows of one epoch. */
  readonly rowsPerEpoch: number;
}
