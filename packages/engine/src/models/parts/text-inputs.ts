import type { ModelBatch } from "../../batch/model-batch.ts";
import type { GraphBuilder } from "../../graph/build.ts";
import type { Feeds } from "../../runtime/feeds.ts";
import type { TextInputs } from "./text-decoder.ts";

export { masked } from "../../graph/ops.ts";

/** Where padding stands in the order of keys: no query reaches so far. */
const beyondReach = 2 ** 30;

/** Rotary frequencies of a decoder. */
export interface RotaryConfig {
  /** 1/θ^(2i/d) by slot, as float32; as many as half the rotated part of a head. */
  readonly frequencies: Float32Array;
  /** Which axis of the positions (0 time, 1 height, 2 width) each slot takes. */
  readonly axes: readonly number[];
}

/** θ^(−i/half) for each of `half` slots, rounded as the reference does. */
export function rotaryFrequencies(theta: number, half: number): Float32Array {
  return Float32Array.from({ length: half }, (_, slot) => 1 / Math.fround(theta ** (slot / half)));
}

/** Rotary positions along one axis, for a head of `size`. */
export function plainRotary(theta: number, size: number): RotaryConfig {
  return { frequencies: rotaryFrequencies(theta, size / 2), axes: Array.from({ length: size / 2 }, () => 0) };
}

/**
 * The inputs `ids`, `cos`, `sin` of a text decoder, and `reach` and `order`, or with a cache `mask`; for layers with a window
 * `floor`, and `order` with a cache, too.
 */
export function textInputs(
  graph: GraphBuilder,
  { frequencies }: RotaryConfig,
  hasCache: boolean,
  slides = false,
): TextInputs {
  const half = frequencies.length;
  const inputs = plainInputs(graph, half, hasCache);
  if (!slides) return inputs;
  const floor = graph.input("floor", ["B", "T"]);
  if ("reach" in inputs.mask) return { ...inputs, slidingMask: { ...inputs.mask, floor } };
  const order = graph.reshape(graph.input("order", ["B", "W"]), ["B", 1, 1, "W"]);
  const below = graph.maskBelow(order, graph.reshape(floor, ["B", 1, "T", 1]));
  return { ...inputs, slidingMask: graph.add(inputs.mask, below) };
}

function plainInputs(graph: GraphBuilder, half: number, hasCache: boolean): TextInputs {
  return {
    inputIds: graph.input("ids", ["B*T"], "int64"),
    cos: graph.input("cos", ["B", "T", half]),
    sin: graph.input("sin", ["B", "T", half]),
    mask: hasCache
      ? graph.input("mask", ["B", 1, "T", "W"])
      : { reach: graph.input("reach", ["B", "T"]), order: graph.input("order", ["B", "T"]) },
  };
}

/** Feeds of a whole pass: `ids`, `cos`, `sin`, `order`, and `reach`, causal unless given. */
export function textFeeds(rotary: RotaryConfig, batch: ModelBatch, reach = causalReach(batch)): Feeds {
  const { batchSize, sequenceLength } = batch;
  return {
    ids: { data: batch.inputIds, shape: [batchSize * sequenceLength] },
    ...rotaryFeeds(rotary, batch.positionIds, batchSize, sequenceLength),
    reach: { data: reach, shape: [batchSize, sequenceLength] },
    order: { data: keyOrder(batch), shape: [batchSize, sequenceLength] },
  };
}

/** `cos` and `sin` `[B, T, half]`; positions `[3, B, T]`. */
export function rotaryFeeds(rotary: RotaryConfig, positions: Int32Array, batchSize: number, tokens: number): Feeds {
  const { cos, sin } = rotaryTables(rotary, positions, batchSize * tokens);
  const shape = [batchSize, tokens, rotary.frequencies.length];
  return { cos: { data: cos, shape }, sin: { data: sin, shape } };
}

/**
 * Cosines and sines `[rows, half]`.
 *
 * @param positions  `[3, rows]`: time, height, width
 * Angles are products rounded to fp32, as the reference has them.
 */
export function rotaryTables(
  { frequencies, axes }: RotaryConfig,
  positions: Int32Array,
  rows: number,
): { cos: Float32Array; sin: Float32Array } {
  const half = frequencies.length;
  const cos = new Float32Array(rows * half);
  const sin = new Float32Array(rows * half);
  for (let row = 0; row < rows; row++) {
    for (let slot = 0; slot < half; slot++) {
      const position = positions[(axes[slot] as number) * rows + row] as number;
      const angle = Math.fround(position * (frequencies[slot] as number));
      cos[row * half + slot] = Math.cos(angle);
      sin[row * half + slot] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

/**
 * Which axis feeds each slot of an interleaved M-RoPE: height at 1, 4, 7 …, width at 2, 5, 8 …, time elsewhere.
 * Source: `apply_interleaved_mrope` of `modeling_qwen3_vl.py`, huggingface/transformers 5.23.
 */
export function interleavedAxes(half: number, [, height, width]: readonly [number, number, number]): number[] {
  return Array.from({ length: half }, (_, slot) => {
    if (slot % 3 === 1 && slot < 3 * height) return 1;
    if (slot % 3 === 2 && slot < 3 * width) return 2;
    return 0;
  });
}

/** Which axis feeds each slot of an M-RoPE whose sections follow each other. Source: `modeling_qwen2_5_vl.py`, 5.23. */
export function sectionAxes(section: readonly [number, number, number]): number[] {
  return section.flatMap((size, axis) => Array.from({ length: size }, () => axis));
}

/** `[B, T]`: up to which key of its row each query sees: itself. */
export function causalReach({ batchSize, sequenceLength }: ModelBatch): Float32Array {
  return Float32Array.from({ length: batchSize * sequenceLength }, (_, index) => index % sequenceLength);
}

/**
 * `[B, T]`: from which key of its row each query sees in layers with a window. The prompt, whose tokens see each other both
 * ways, is seen by them as a whole.
 *
 * @param reach  up to which key each query sees: the first one to the end of the prompt
 */
export function slidingFloor(
  { batchSize, sequenceLength }: ModelBatch,
  reach: Float32Array,
  window: number,
): Float32Array {
  return Float32Array.from({ length: batchSize * sequenceLength }, (_, index) => {
    const token = index % sequenceLength;
    const isPrompt = token <= (reach[index - token] as number);
    return isPrompt ? 0 : Math.max(0, token - window + 1);
  });
}

/**
 * `floor` `[B, 1]` and `order` `[B, span]` of one further token a row.
 *
 * @param places  of the new tokens in their rows
 * @param span    cached tokens, the prompts' with their padding first, then those that followed, and the new one
 */
export function stepWindowFeeds(batch: ModelBatch, places: readonly number[], span: number, window: number): Feeds {
  const { batchSize, sequenceLength, attentionMask } = batch;
  const order = new Float32Array(batchSize * span);
  for (let row = 0; row < batchSize; row++) {
    const start = row * sequenceLength;
    const length = attentionMask.subarray(start, start + sequenceLength).lastIndexOf(1) + 1;
    for (let slot = 0; slot < span - 1; slot++)
      order[row * span + slot] = slot < sequenceLength ? slot : length + slot - sequenceLength;
    order[row * span + span - 1] = places[row] as number;
  }
  return {
    floor: { data: Float32Array.from(places, (place) => Math.max(0, place - window + 1)), shape: [batchSize, 1] },
    order: { data: order, shape: [batchSize, span] },
  };
}

/** `[B, T]`: the place of each key in its row; padding lies beyond every reach. */
export function keyOrder({ batchSize, sequenceLength, attentionMask }: ModelBatch): Float32Array {
  return Float32Array.from({ length: batchSize * sequenceLength }, (_, index) =>
    attentionMask[index] ? index % sequenceLength : beyondReach,
  );
}

/** Positions of a row that counts its tokens along one axis. */
export function countedPositions(tokens: number, first = 0): [number[], number[], number[]] {
  const axis = Array.from({ length: tokens }, (_, token) => first + token);
  return [axis, axis, axis];
}
