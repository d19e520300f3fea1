/**
 * Seeded random numbers: xoshiro128**, its state filled by splitmix32. The same seed gives the same numbers on every
 * machine.
 *
 * Source: Blackman and Vigna, `prng.di.unimi.it`.
 */
export class SeededRandom {
  readonly #state = new Uint32Array(4);

  constructor(seed: number) {
    let value = seed >>> 0;
    for (let index = 0; index < 4; index++) {
      value = (value + 0x9e3779b9) >>> 0;
      let mixed = Math.imul(value ^ (value >>> 16), 0x21f0aaad);
      mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
      this.#state[index] = (mixed ^ (mixed >>> 15)) >>> 0;
    }
  }

  /** 0 to 2³² − 1. */
  nextUint32(): number {
    const state = this.#state;
    const [a, b, c, d] = [state[0] ?? 0, state[1] ?? 0, state[2] ?? 0, state[3] ?? 0];
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const third = c ^ a;
    const fourth = d ^ b;
    state[1] = b ^ third;
    state[0] = a ^ fourth;
    state[2] = third ^ (b << 9);
    state[3] = (fourth << 11) | (fourth >>> 21);
    return result;
  }

  /** A whole number from 0 to `count` − 1. */
  below(count: number): number {
    return Math.floor((this.nextUint32() / 2 ** 32) * count);
  }
}
