import { evaluate } from "../graph/shape.ts";
import type { FeedTensor, Symbols } from "../runtime/feeds.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import type { Value } from "./cut-graph.ts";

/** A value or a gradient in shared memory. */
export interface HeldValue extends FeedTensor {
  readonly data: Float32Array;
}

/** The values of one micro-batch between segments, and the sums of their gradients. */
export class ValueStore {
  /** Memory of the micro-batch before, for sizes that come again. */
  readonly #spare: Float32Array[];
  readonly #symbols: Symbols;
  readonly #held = new Map<string, HeldValue>();
  readonly #letGo: Float32Array[] = [];

  constructor(symbols: Symbols, spare: readonly Float32Array[] = []) {
    this.#symbols = symbols;
    this.#spare = [...spare];
  }

  /** Memory under `name`, in the size of `value`; what is in it is left as it was. */
  make(name: string, value: Value): HeldValue {
    const shape = value.shape.map((size) => evaluate(size, this.#symbols));
    const length = shape.reduce((product, size) => product * size, 1);
    const held = { data: take(this.#letGo, length) ?? take(this.#spare, length) ?? sharedFloats(length), shape };
    this.#held.set(name, held);
    return held;
  }

  /** Takes what another stage computed. */
  put(name: string, value: Value, data: Float32Array): void {
    this.#held.set(name, { data, shape: value.shape.map((size) => evaluate(size, this.#symbols)) });
  }

  get(name: string): HeldValue | undefined {
    return this.#held.get(name);
  }

  /** The memory may hold something else now. */
  letGo(name: string): void {
    const held = this.#held.get(name);
    if (held && this.#held.delete(name)) this.#letGo.push(held.data);
  }

  /** Lets everything go; answers with the memory, for the next micro-batch. */
  empty(): readonly Float32Array[] {
    for (const name of this.#held.keys()) this.letGo(name);
    return this.#letGo;
  }
}

function take(memory: Float32Array[], length: number): Float32Array | undefined {
  const index = memory.findIndex((each) => each.length === length);
  return index < 0 ? undefined : memory.splice(index, 1)[0];
}
