import type { ModelBatch } from "../batch/model-batch.ts";
import type { Node } from "../graph/ops.ts";
import type { Qwen3VlConfig } from "../models/qwen3-vl/config.ts";
import { forwardGraph, type ForwardGraph } from "../models/qwen3-vl/graph.ts";
import {
  batchSymbols,
  ropeTables,
  textFeeds,
  visionFeeds,
  type Feeds,
  type FeedTensor,
} from "../models/qwen3-vl/inputs.ts";
import type { LoraPlacement } from "../models/variables.ts";
import { CompiledGraph } from "../runtime/compiled-graph.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import { SeededRandom } from "../training/random.ts";
import { weightLocations, type ModelFolder } from "../weights/model-folder.ts";
import { chooseToken, type SamplingOptions } from "./sampling.ts";

export interface GenerationOptions extends SamplingOptions {
  readonly maxNewTokens: number;
  /** Tokens that end an answer; they are not part of it. */
  readonly stopTokenIds: readonly number[];
  readonly signal?: AbortSignal;
}

export interface GeneratorSettings {
  readonly config: Qwen3VlConfig;
  readonly threads: number;
  readonly folder: ModelFolder;
  readonly lora: LoraPlacement | null;
  /** Weights that are fed at each run because they change: adapters, or all trained ones. */
  readonly live: ReadonlyMap<string, FeedTensor>;
}

const masked = -3.4028234663852886e38 / 2;

/** Continues prompts with a key/value cache: one pass over the prompts, then one token a row and pass. */
export class AnswerGenerator {
  readonly #settings: GeneratorSettings;
  readonly #prefill = new Map<boolean, CompiledGraph>();
  #decode: CompiledGraph | null = null;
  #full = new Map<boolean, CompiledGraph>();

  constructor(settings: GeneratorSettings) {
    this.#settings = settings;
  }

  /** Logits `[B·T, vocabulary]` of every position, padding included. */
  async logits(batch: ModelBatch): Promise<Float32Array> {
    const hasImages = batch.imageGrids.length > 0;
    let graph = this.#full.get(hasImages);
    if (!graph) {
      const forward = this.#forward(hasImages, false);
      graph = await this.#compile(forward, { logits: forward.logits("all") });
      this.#full.set(hasImages, graph);
    }
    const { logits } = await graph.run(this.#promptFeeds(batch), batchSymbols(this.#settings.config.vision, batch));
    return logits as Float32Array;
  }

  /**
   * Yields the next token of each row, step by step; null for rows whose answer has ended. Rows of a batch do not
   * influence each other.
   */
  async *tokens(batch: ModelBatch, options: GenerationOptions): AsyncGenerator<readonly (number | null)[]> {
    const { config } = this.#settings;
    const lengths = promptLengths(batch);
    const graph = await this.#prefillGraph(batch.imageGrids.length > 0);
    const rows = BigInt64Array.from(lengths, (length, row) => BigInt(row * batch.sequenceLength + length - 1));
    const first = await graph.run(
      { ...this.#promptFeeds(batch), rows: { data: rows, shape: [rows.length] } },
      { ...batchSymbols(config.vision, batch), L: rows.length },
    );
    const cache = new Cache(config.text, batch, first, options.maxNewTokens);
    const seen = lengths.map((length, row) =>
      Array.from(batch.inputIds.subarray(row * batch.sequenceLength, row * batch.sequenceLength + length), Number),
    );
    const randoms = lengths.map((_, row) => new SeededRandom(options.seed ?? 0, row));
    const ended = lengths.map(() => false);
    let logits = first["logits"] as Float32Array;
    for (let step = 0; step < options.maxNewTokens; step++) {
      options.signal?.throwIfAborted();
      const chosen = seen.map((tokens, row) => {
        if (ended[row]) return null;
        const { vocabularySize } = config.text;
        const token = chooseToken(
          logits.subarray(row * vocabularySize, (row + 1) * vocabularySize),
          tokens,
          options,
          randoms[row] as SeededRandom,
        );
        if (options.stopTokenIds.includes(token)) {
          ended[row] = true;
          return null;
        }
        tokens.push(token);
        return token;
      });
      if (ended.every(Boolean)) return;
      yield chosen;
      if (step + 1 < options.maxNewTokens) logits = await this.#next(cache, chosen);
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
    for (const graph of [...this.#prefill.values(), ...this.#full.values(), ...(this.#decode ? [this.#decode] : [])])
      await graph.close();
    this.#prefill.clear();
    this.#full.clear();
    this.#decode = null;
  }

  async #next(cache: Cache, tokens: readonly (number | null)[]): Promise<Float32Array> {
    if (!this.#decode) {
      const forward = this.#forward(false, true);
      this.#decode = await this.#compile(forward, { logits: forward.logits("all"), ...cacheOutputs(forward) });
    }
    const results = await this.#decode.run({ ...cache.feeds(tokens), ...this.#liveFeeds() }, cache.symbols());
    cache.append(results);
    return results["logits"] as Float32Array;
  }

  async #prefillGraph(hasImages: boolean): Promise<CompiledGraph> {
    let graph = this.#prefill.get(hasImages);
    if (!graph) {
      const forward = this.#forward(hasImages, false);
      graph = await this.#compile(forward, { logits: forward.logits("given"), ...cacheOutputs(forward) });
      this.#prefill.set(hasImages, graph);
    }
    return graph;
  }

  #forward(hasImages: boolean, hasCache: boolean): ForwardGraph {
    const { config, lora, live } = this.#settings;
    return forwardGraph(config, { hasImages, hasCache, lora, isTrained: (name) => live.has(name) });
  }

  async #compile(forward: ForwardGraph, outputs: Record<string, Node>): Promise<CompiledGraph> {
    const { folder, threads, live } = this.#settings;
    const frozen = new Map([...forward.variables.shapes].filter(([name]) => !live.has(name)));
    return await CompiledGraph.compile(outputs, {
      threads,
      weights: weightLocations(folder, frozen),
      weightsDirectory: folder.directory,
    });
  }

  #promptFeeds(batch: ModelBatch): Feeds {
    const { config } = this.#settings;
    return {
      ...textFeeds(config.text, batch),
      ...(batch.imageGrids.length > 0 ? visionFeeds(config.vision, batch) : {}),
      ...this.#liveFeeds(),
    };
  }

  #liveFeeds(): Feeds {
    return Object.fromEntries(this.#settings.live);
  }
}

function cacheOutputs(forward: ForwardGraph): Record<string, Node> {
  return Object.fromEntries(
    forward.output.cache.flatMap(({ key, value }, layer) => [
      [`new.${layer}.key`, key] as const,
      [`new.${layer}.value`, value] as const,
    ]),
  );
}

function promptLengths(batch: ModelBatch): number[] {
  return Array.from({ length: batch.batchSize }, (_, row) =>
    batch.attentionMask
      .subarray(row * batch.sequenceLength, (row + 1) * batch.sequenceLength)
      .reduce((sum, bit) => sum + bit, 0),
  );
}

/** Keys and values of all layers, `[B, K, capacity, d]`, filled from the left: the prompt with its padding, then answers. */
class Cache {
  readonly #config: Qwen3VlConfig["text"];
  readonly #batch: ModelBatch;
  readonly #capacity: number;
  readonly #layers: { readonly key: Float32Array; readonly value: Float32Array }[];
  readonly #mask: Float32Array;
  readonly #nextPositions: number[];
  #used: number;

  constructor(
    config: Qwen3VlConfig["text"],
    batch: ModelBatch,
    prefill: Readonly<Record<string, Float32Array>>,
    maxNewTokens: number,
  ) {
    this.#config = config;
    this.#batch = batch;
    this.#capacity = batch.sequenceLength + maxNewTokens;
    this.#used = 0;
    const size = batch.batchSize * config.keyValueHeads * this.#capacity * config.headSize;
    this.#layers = Array.from({ length: config.layers }, () => ({
      key: sharedFloats(size),
      value: sharedFloats(size),
    }));
    this.#mask = new Float32Array(batch.batchSize * (this.#capacity + 1)).fill(masked);
    this.#nextPositions = Array.from({ length: batch.batchSize }, (_, row) => nextPosition(batch, row));
    for (let row = 0; row < batch.batchSize; row++) {
      const start = row * (this.#capacity + 1);
      for (let token = 0; token < batch.sequenceLength; token++)
        if (batch.attentionMask[row * batch.sequenceLength + token]) this.#mask[start + token] = 0;
      this.#mask[start + this.#capacity] = 0; // the new token sees itself
    }
    this.#place(prefill, batch.sequenceLength);
  }

  symbols(): Record<string, number> {
    return { B: this.#batch.batchSize, T: 1, S: this.#capacity, W: this.#capacity + 1 };
  }

  feeds(tokens: readonly (number | null)[]): Feeds {
    const { batchSize } = this.#batch;
    const half = this.#config.headSize / 2;
    const positions = Int32Array.from(
      { length: 3 * batchSize },
      (_, index) => this.#nextPositions[index % batchSize] as number,
    );
    const { cos, sin } = ropeTables(this.#config, positions, batchSize);
    const shape = [batchSize, this.#config.keyValueHeads, this.#capacity, this.#config.headSize];
    const feeds: Feeds = {
      ids: { data: BigInt64Array.from(tokens, (token) => BigInt(token ?? 0)), shape: [batchSize] },
      cos: { data: cos, shape: [batchSize, 1, half] },
      sin: { data: sin, shape: [batchSize, 1, half] },
      mask: { data: this.#mask, shape: [batchSize, 1, 1, this.#capacity + 1] },
    };
    this.#layers.forEach(({ key, value }, layer) => {
      feeds[`past.${layer}.key`] = { data: key, shape };
      feeds[`past.${layer}.value`] = { data: value, shape };
    });
    return feeds;
  }

  /** Takes the keys and values of one new token a row. */
  append(results: Readonly<Record<string, Float32Array>>): void {
    for (let row = 0; row < this.#batch.batchSize; row++) {
      this.#mask[row * (this.#capacity + 1) + this.#used] = 0;
      this.#nextPositions[row] = (this.#nextPositions[row] as number) + 1;
    }
    this.#place(results, 1);
  }

  #place(results: Readonly<Record<string, Float32Array>>, tokens: number): void {
    const { headSize, keyValueHeads } = this.#config;
    const heads = this.#batch.batchSize * keyValueHeads;
    this.#layers.forEach((layer, index) => {
      for (const kind of ["key", "value"] as const) {
        const added = results[`new.${index}.${kind}`] as Float32Array;
        for (let head = 0; head < heads; head++)
          layer[kind].set(
            added.subarray(head * tokens * headSize, (head + 1) * tokens * headSize),
            (head * this.#capacity + this.#used) * headSize,
          );
      }
    });
    this.#used += tokens;
  }
}

/** The position after the last token of a prompt: one more than the largest on any axis. */
function nextPosition({ positionIds, attentionMask, batchSize, sequenceLength }: ModelBatch, row: number): number {
  let largest = -1;
  for (let axis = 0; axis < 3; axis++)
    for (let token = 0; token < sequenceLength; token++)
      if (attentionMask[row * sequenceLength + token])
        largest = Math.max(largest, positionIds[(axis * batchSize + row) * sequenceLength + token] as number);
  return largest + 1;
}
