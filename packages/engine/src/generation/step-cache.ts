import type { ModelBatch } from "../batch/model-batch.ts";
import type { CacheSlot, Model } from "../models/model.ts";
import { masked } from "../models/parts/text-inputs.ts";
import type { Feeds, FeedTensor, Symbols } from "../runtime/feeds.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";

/**
 * What passes over a batch leave for its next tokens. Arrays that grow, `[B, heads, capacity, size]`, are filled from the
 * left: the prompt with its padding, then the answers.
 */
export class StepCache {
  readonly #model: Model;
  readonly #batch: ModelBatch;
  readonly #capacity: number;
  readonly #slots: { readonly slot: CacheSlot; tensor: FeedTensor & { readonly data: Float32Array } }[];
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
      .map((slot) => ({ slot, tensor: this.#emptyTensor(slot, prefill[`new.${slot.name}`] as Float32Array) }));
    this.#mask = new Float32Array(batch.batchSize * (this.#capacity + 1)).fill(masked);
    this.#nextPositions = Array.from({ length: batch.batchSize }, (_, row) => nextPosition(batch, row));
    for (let row = 0; row < batch.batchSize; row++) {
      const start = row * (this.#capacity + 1);
      for (let token = 0; token < batch.sequenceLength; token++)
        if (batch.attentionMask[row * batch.sequenceLength + token]) this.#mask[start + token] = 0;
      this.#mask[start + this.#capacity] = 0; // the new token sees itself
    }
    this.#take(prefill, batch.sequenceLength);
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

  /** Takes what the pass over one new token a row has left. */
  append(results: Readonly<Record<string, Float32Array>>): void {
    for (let row = 0; row < this.#batch.batchSize; row++) {
      this.#mask[row * (this.#capacity + 1) + this.#used] = 0;
      this.#nextPositions[row] = (this.#nextPositions[row] as number) + 1;
    }
    this.#take(results, 1);
  }

  #emptyTensor(slot: CacheSlot, prefill: Float32Array): FeedTensor & { readonly data: Float32Array } {
    const { batchSize } = this.#batch;
    const sizes = slot.shape(this.#batch);
    if (slot.kind !== "grows") return { data: prefill, shape: [batchSize, ...sizes] };
    const [heads = 1, size = 1] = sizes;
    const shape = [batchSize, heads, this.#capacity, size];
    return { data: sharedFloats(batchSize * heads * this.#capacity * size), shape };
  }

  #take(results: Readonly<Record<string, Float32Array>>, tokens: number): void {
    for (const held of this.#slots) {
      const added = results[`new.${held.slot.name}`];
      if (!added) continue;
      if (held.slot.kind === "grows") this.#place(held.tensor, added, tokens);
      else held.tensor = { ...held.tensor, data: added };
    }
    this.#used += tokens;
  }

  #place({ data, shape }: FeedTensor & { readonly data: Float32Array }, added: Float32Array, tokens: number): void {
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
