import type { NumberArray } from "./collective.ts";

/** Several buffers of one type, seen as one vector. Nothing is copied. */
export class Vector {
  readonly length: number;
  readonly bytesPerElement: number;
  readonly #buffers: readonly NumberArray[];
  /** Position of each buffer's first element. */
  readonly #starts: readonly number[];

  /** @throws TypeError when the buffers are of different types */
  constructor(buffers: readonly NumberArray[]) {
    this.#buffers = buffers.filter(({ length }) => length > 0);
    this.bytesPerElement = this.#buffers[0]?.BYTES_PER_ELEMENT ?? Float32Array.BYTES_PER_ELEMENT;
    const starts: number[] = [];
    let length = 0;
    for (const buffer of this.#buffers) {
      if (buffer.BYTES_PER_ELEMENT !== this.bytesPerElement)
        throw new TypeError("the buffers of one operation must be all float32 or all float64");
      starts.push(length);
      length += buffer.length;
    }
    this.#starts = starts;
    this.length = length;
  }

  /** Views that together are the elements `[from, to)`. */
  slices(from: number, to: number): NumberArray[] {
    const found: NumberArray[] = [];
    for (let index = this.#indexAt(from), at = from; at < to; index++) {
      const buffer = this.#buffers[index] as NumberArray;
      const start = this.#starts[index] as number;
      const end = Math.min(to, start + buffer.length);
      found.push(buffer.subarray(at - start, end - start));
      at = end;
    }
    return found;
  }

  /** The last buffer that starts at or before `position`. */
  #indexAt(position: number): number {
    let low = 0;
    let high = this.#starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#starts[middle] as number) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The memory of an array as bytes. */
export function bytesOf(array: NumberArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
