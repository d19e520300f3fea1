import type { FrameHeader, FrameOperation } from "./frame.ts";
import type { RingLink } from "./ring-link.ts";
import type { Piece, RingSchedule } from "./ring-schedule.ts";
import { bytesOf, type Vector } from "./vector.ts";

/** Bytes that may wait in a socket: enough to keep it busy, few enough to let an abort through. */
const waitingLimit = 4 << 20;

/** One operation of one rank, from its first frame to its last. */
export class RingTransfer {
  readonly #operation: FrameOperation;
  readonly #sequence: number;
  readonly #vector: Vector;
  readonly #schedule: RingSchedule;
  readonly #next: RingLink;
  /** Where a piece arrives that is added or that belongs to several buffers. */
  readonly #staging: ArrayBuffer;
  readonly #whenDone: () => void;
  #received = 0;
  #sent = 0;
  #flushed = 0;
  #isNextReady = false;
  #isPumping = false;

  constructor(
    operation: FrameOperation,
    sequence: number,
    vector: Vector,
    schedule: RingSchedule,
    next: RingLink,
    staging: ArrayBuffer,
    whenDone: () => void,
  ) {
    this.#operation = operation;
    this.#sequence = sequence;
    this.#vector = vector;
    this.#schedule = schedule;
    this.#next = next;
    this.#staging = staging;
    this.#whenDone = whenDone;
  }

  get needsPrevious(): boolean {
    return this.#received < this.#schedule.receives.length;
  }

  get needsNext(): boolean {
    return this.#flushed < this.#schedule.sends.length;
  }

  /** The next rank has its memory ready. */
  nextIsReady(): void {
    this.#isNextReady = true;
    this.pump();
  }

  /** Sends what may be sent. */
  pump(): void {
    if (!this.#isNextReady || this.#isPumping) return;
    this.#isPumping = true;
    const { sends, lag } = this.#schedule;
    while (
      this.#sent < sends.length &&
      this.#received >= this.#sent - lag + 1 &&
      this.#next.waitingBytes < waitingLimit
    ) {
      const piece = sends[this.#sent] as Piece;
      this.#next.sendData(
        this.#headerOf(piece, this.#sent),
        this.#vector.slices(piece.from, piece.to).map(bytesOf),
        () => {
          this.#flushed += 1;
          this.pump();
          this.#endIfDone();
        },
      );
      this.#sent += 1;
    }
    this.#isPumping = false;
  }

  /** @throws Error when the frame is not the one that comes next */
  place(header: FrameHeader): readonly Uint8Array[] {
    const piece = this.#schedule.receives[this.#received];
    const expected = piece && this.#headerOf(piece, this.#received);
    if (
      !piece ||
      !expected ||
      header.operation !== expected.operation ||
      header.sequence !== expected.sequence ||
      header.index !== expected.index ||
      header.payloadBytes !== expected.payloadBytes ||
      header.elements !== expected.elements
    ) {
      const what = expected
        ? `${expected.operation} ${expected.sequence} of ${expected.elements} elements, piece ${expected.index}`
        : "nothing more";
      throw new Error(
        `it sent ${header.operation} ${header.sequence} of ${header.elements} elements, piece ${header.index}, where this rank expects ${what}`,
      );
    }
    if (header.payloadBytes === 0) return [];
    if (this.#received < this.#schedule.added) return [new Uint8Array(this.#staging, 0, header.payloadBytes)];
    const slices = this.#vector.slices(piece.from, piece.to);
    return slices.length === 1 ? slices.map(bytesOf) : [new Uint8Array(this.#staging, 0, header.payloadBytes)];
  }

  arrived(): void {
    const { from, to } = this.#schedule.receives[this.#received] as Piece;
    const slices = this.#vector.slices(from, to);
    if (this.#received < this.#schedule.added) this.#spread(slices, add);
    else if (slices.length > 1) this.#spread(slices, (target, source) => target.set(source));
    this.#received += 1;
    this.pump();
    this.#endIfDone();
  }

  /** Ends an operation that has nothing to receive or to send. */
  start(): void {
    this.#endIfDone();
  }

  #endIfDone(): void {
    if (!this.needsPrevious && !this.needsNext) this.#whenDone();
  }

  #spread<T extends Float32Array | Float64Array>(
    slices: readonly T[],
    put: (target: T, source: Float32Array | Float64Array) => void,
  ): void {
    let offset = 0;
    for (const slice of slices) {
      put(slice, viewLike(slice, this.#staging, offset));
      offset += slice.byteLength;
    }
  }

  #headerOf({ from, to }: Piece, index: number): Omit<FrameHeader, "kind" | "epoch"> {
    return {
      operation: this.#operation,
      sequence: this.#sequence,
      index,
      payloadBytes: (to - from) * this.#vector.bytesPerElement,
      elements: this.#vector.length,
    };
  }
}

function viewLike(
  array: Float32Array | Float64Array,
  memory: ArrayBuffer,
  offset: number,
): Float32Array | Float64Array {
  return array instanceof Float32Array
    ? new Float32Array(memory, offset, array.length)
    : new Float64Array(memory, offset, array.length);
}

/** target += source; the order of the operands is fixed, so is the result. */
function add(target: Float32Array | Float64Array, source: Float32Array | Float64Array): void {
  for (let index = 0; index < target.length; index++)
    target[index] = (source[index] as number) + (target[index] as number);
}
