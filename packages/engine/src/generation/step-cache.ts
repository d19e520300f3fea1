import type { ModelBatch } from "../batch/model-batch.ts";
import type { CacheSlot, Model } from "../models/model.ts";
import { masked } from "../models/parts/text-inputs.ts";
import type { Feeds, FeedTensor, Symbols } from "../runtime/feeds.ts";
import { sharedFloats, toShared } from "../runtime/shared-floats.ts";

type FloatTensor = FeedTensor & { readonly data: Float32Array };

interface HeldSlot {
  readonly slot: CacheSlot;
  tensor: FloatTensor;
  /** The array that the next pass writes to, of a slot that is replaced at each token. */
  spare: Float32Array | null;
}

/**
 * What passes over a batch leave for its next tokens. Arrays that grow, `[B, heads, capacity, size]`, are filled from the
 * left: the prompt with its padding, then the answers.
 */
export class StepCache {
  readonly #model: Model;
  readonly #batch: ModelBatch;
  readonly #capacity: number;
  readonly #slots: HeldSlot[];
  readonly #mask: Float32Array;
  readonly #nextPositions: number[];
  #used: number;

  /** @param prefill  the outputs `new.<slot>` of the pass over the prompts */
  constructor(model: Model, batch: ModelBatch, prefill: Readonly<Record<string, Float32Array>>, maxNewTokens: number) {
    this.#model = model;
    this.#batch = batch;
    this.#capacity = batch.sequenceLength + maxNewTokens;
    this.#used = 0;
    this.#slots = model.cache
      .filter(({ name }) => prefill[`new.${name}`])
      .map((slot) => this.#held(slot, prefill[`new.${slot.name}`] as Float32Array));
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

  /** Inputs of the graph that takes one further token a row. */
  inputs(tokens: readonly (number | null)[]): { readonly feeds: Feeds; readonly symbols: Symbols } {
    const { batchSize } = this.#batch;
    const positions = Int32Array.from(
      { length: 3 * batchSize },
      (_, index) => this.#nextPositions[index % batchSize] as number,
    );
    const step = this.#model.step(this.#batch, positions, this.#capacity + 1);
    const feeds: Feeds = {
      ...step.feeds,
      ids: { data: BigInt64Array.from(tokens, (token) => BigInt(token ?? 0)), shape: [batchSize] },
      mask: { data: this.#mask, shape: [batchSize, 1, 1, this.#capacity + 1] },
    };
    for (const { slot, tensor } of this.#slots) feeds[`past.${slot.name}`] = tensor;
    return { feeds, symbols: { ...step.symbols, B: batchSize, T: 1, S: this.#capacity, W: this.#capacity + 1 } };
  }

  /** Arrays for what the pass over one new token a row puts in another's place, by output: they are not the ones it reads. */
  targets(): Readonly<Record<string, Float32Array>> {
    return Object.fromEntries(
      this.#slots.flatMap(({ slot, spare }) => (spare ? [[`new.${slot.name}`, spare] as const] : [])),
    );
  }

  /** Takes what the pass over one new token a row has left. */
  append(results: Readonly<Record<string, Float32Array>>): void {
    for (let row = 0; row < this.#batch.batchSize; row++) {
      this.#mask[row * (this.#capacity + 1) + this.#used] = 0;
      this.#nextPositions[row] = (this.#nextPositions[row] as number) + 1;
    }
    for (const held of this.#slots) {
      if (!held.spare) continue;
      const { data, shape } = held.tensor;
      held.tensor = { data: held.spare, shape };
      held.spare = data;
    }
    this.#place(results, 1);
  }

  /** In shared memory: what a session is fed at every token would be copied to its thread each time. */
  #held(slot: CacheSlot, prefill: Float32Array): HeldSlot {
    const { batchSize } = this.#batch;
    const sizes = slot.shape(this.#batch);
    if (slot.kind === "grows") {
      const [heads = 1, size = 1] = sizes;
      const shape = [batchSize, heads, this.#capacity, size];
      return { slot, tensor: { data: sharedFloats(batchSize * heads * this.#capacity * size), shape }, spare: null };
    }
    const data = toShared(prefill);
    const spare = slot.kind === "replaced" ? sharedFloats(prefill.length) : null;
    return { slot, tensor: { data, shape: [batchSize, ...sizes] }, spare };
  }

  /** Puts the further tokens of arrays that grow behind what they hold. */
  #place(results: Readonly<Record<string, Float32Array>>, tokens: number): void {
    for (const { slot, tensor } of this.#slots) {
      const added = results[`new.${slot.name}`];
      if (added && slot.kind === "grows") this.#placeTokens(tensor, added, tokens);
    }
    this.#used += tokens;
  }

  #placeTokens({ data, shape }: FloatTensor, added: Float32Array, tokens: number): void {
    const [rows = 1, heads = 1, , size = 1] = shape;
    for (let head = 0; head < rows * heads; head++)
      data.set(
        added.subarray(head * tokens * size, (head + 1) * tokens * size),
        (head * this.#capacity + this.#used) * size,
      );
  }
}

/** The position after the last token of a prompt: one more than the largest on any axis. */
export function nextPosition(
  { positionIds, attentionMask, batchSize, sequenceLength }: ModelBatch,
  row: number,
): number {
  let largest = -1;
  for (let axis = 0; axis < 3; axis++)
    for (let token = 0; token < sequenceLength; token++)
      if (attentionMask[row * sequenceLength + token])
        largest = Math.max(largest, positionIds[(axis * batchSize + row) * sequenceLength + token] as number);
  return largest + 1;
}
