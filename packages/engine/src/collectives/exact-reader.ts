/** Sorts a byte stream into memory that is named beforehand, so that big payloads land where they belong. */
export class ExactReader {
  #target: Uint8Array = new Uint8Array(1);
  #filled = 0;
  #whenFull: () => void = () => undefined;
  #count = 0;

  /** Bytes that ever arrived. */
  get count(): number {
    return this.#count;
  }

  /** The next bytes go to `target`, at least one; `whenFull` must say what comes after them. */
  expect(target: Uint8Array, whenFull: () => void): void {
    this.#target = target;
    this.#filled = 0;
    this.#whenFull = whenFull;
  }

  /** Where the next bytes belong; never empty. */
  room(): Uint8Array {
    return this.#filled === 0 ? this.#target : this.#target.subarray(this.#filled);
  }

  /** `count` bytes were put into `room()`. */
  advance(count: number): void {
    this.#filled += count;
    this.#count += count;
    if (this.#filled === this.#target.length) this.#whenFull();
  }

  /** Takes bytes that arrived elsewhere. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const room = this.room();
      const count = Math.min(room.length, bytes.length - at);
      room.set(bytes.subarray(at, at + count));
      at += count;
      this.advance(count);
    }
  }
}
