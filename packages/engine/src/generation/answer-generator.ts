import type { ModelBatch } from "../batch/model-batch.ts";
import { SeededRandom } from "../training/random.ts";
import { promptLengths, type AnswerPasses } from "./answer-passes.ts";
import { chooseToken, type SamplingOptions } from "./sampling.ts";

export interface GenerationOptions extends SamplingOptions {
  readonly maxNewTokens: number;
  /** Tokens that end an answer; they are not part of it. */
  readonly stopTokenIds: readonly number[];
  readonly signal?: AbortSignal;
}

/** Continues prompts with a key/value cache: one pass over the prompts, then one token a row and pass. */
export class AnswerGenerator {
  readonly #passes: AnswerPasses;

  constructor(passes: AnswerPasses) {
    this.#passes = passes;
  }

  /** Logits `[B·T, vocabulary]` of every position, padding included. */
  async logits(batch: ModelBatch): Promise<Float32Array> {
    return await this.#passes.logits(batch);
  }

  /**
   * Yields the next token of each row, step by step; null for rows whose answer has ended. Rows of a batch do not
   * influence each other.
   */
  async *tokens(batch: ModelBatch, options: GenerationOptions): AsyncGenerator<readonly (number | null)[]> {
    const lengths = promptLengths(batch);
    const seen = lengths.map((length, row) =>
      Array.from(batch.inputIds.subarray(row * batch.sequenceLength, row * batch.sequenceLength + length), Number),
    );
    const randoms = lengths.map((_, row) => new SeededRandom(options.seed ?? 0, row));
    const ended = lengths.map(() => false);
    const continuation = await this.#passes.begin(batch, options.maxNewTokens);
    try {
      let { logits } = continuation;
      for (let step = 0; step < options.maxNewTokens; step++) {
        options.signal?.throwIfAborted();
        const chosen = seen.map((tokens, row) => {
          if (ended[row]) return null;
          const size = logits.length / lengths.length;
          const own = logits.subarray(row * size, (row + 1) * size);
          const token = chooseToken(own, tokens, options, randoms[row] as SeededRandom);
          if (options.stopTokenIds.includes(token)) {
            ended[row] = true;
            return null;
          }
          tokens.push(token);
          return token;
        });
        if (ended.every(Boolean)) return;
        yield chosen;
        if (step + 1 < options.maxNewTokens) logits = await continuation.next(chosen);
      }
    } finally {
      await continuation.end();
    }
  }

  /** Whole answers as token ids, by row. */
  async answers(batch: ModelBatch, options: GenerationOptions): Promise<number[][]> {
    const answers: number[][] = Array.from({ length: batch.batchSize }, () => []);
    for await (const step of this.tokens(batch, options)) {
      step.forEach((token, row) => {
        if (token !== null) answers[row]?.push(token);
      });
    }
    return answers;
  }

  async close(): Promise<void> {
    await this.#passes.close();
  }
}
