import { PeerLostError } from "../collectives/collective.ts";
import { dial, type RingListener } from "../collectives/ring-connect.ts";
import type { RingIdentity } from "../collectives/handshake.ts";
import type { FrameHeader } from "../collectives/frame.ts";
import type { RingLink } from "../collectives/ring-link.ts";
import { bytesOf } from "../collectives/vector.ts";
import { sharedFloats } from "../runtime/shared-floats.ts";
import type { StageChannel, Way } from "./pipeline-stage.ts";

/** How long the other end may take to come. */
const connectMs = 120_000;
/** Elements of one frame at most; its length is 32 bits of bytes. */
const frameElements = 1 << 28;

interface Waiting {
  readonly resolve: (arrays: Float32Array[]) => void;
  readonly reject: (error: Error) => void;
}

/** Messages of one way that have come, and who waits for one. */
class Mailbox {
  readonly arrived: Float32Array[][] = [];
  readonly waiting: Waiting[] = [];
  /** Arrays of the message that is being received; the last may be filled in part. */
  partial: Float32Array[] = [];
  filled = 0;
}

/**
 * A connection between two stages of a pipeline: arrays of floats, both ways at once. What arrives before it is asked for
 * is kept; the schedule of a pipeline bounds how much that is.
 */
export class StageLink implements StageChannel {
  readonly #link: RingLink;
  readonly #mailboxes: Readonly<Record<Way, Mailbox>> = { forward: new Mailbox(), back: new Mailbox() };
  #failure: PeerLostError | null = null;

  private constructor(link: RingLink) {
    this.#link = link;
    link.attach({
      place: (header) => [bytesOf(this.#place(header))],
      arrived: (header) => this.#arrived(header),
      control: ({ kind }) => {
        if (kind === "bye") this.#fail("it has left the pipeline");
      },
      lost: (why) => this.#fail(why),
    });
  }

  /** The end that waits. @throws PeerLostError when rank `peer` does not come in time */
  static async accept(listener: RingListener, identity: RingIdentity, peer: number): Promise<StageLink> {
    return new StageLink(await listener.accept(identity, peer, AbortSignal.timeout(connectMs)));
  }

  /** The end that calls. @throws PeerLostError when rank `peer` does not answer in time */
  static async dial(address: string, identity: RingIdentity, peer: number): Promise<StageLink> {
    return new StageLink(await dial(address, identity, peer, AbortSignal.timeout(connectMs)));
  }

  send(way: Way, arrays: readonly Float32Array[]): void {
    if (this.#failure) throw this.#failure;
    arrays.forEach((array, position) => {
      for (let from = 0; from < array.length; from += frameElements) {
        const part = array.subarray(from, from + frameElements);
        const header = {
          operation: way,
          sequence: from / frameElements,
          // How many arrays are to follow.
          index: arrays.length - 1 - position,
          payloadBytes: part.byteLength,
          elements: array.length,
        };
        this.#link.sendData(header, [bytesOf(part)], () => undefined);
      }
    });
  }

  async receive(way: Way): Promise<Float32Array[]> {
    const mailbox = this.#mailboxes[way];
    const arrays = mailbox.arrived.shift();
    if (arrays) return arrays;
    if (this.#failure) throw this.#failure;
    return await new Promise((resolve, reject) => mailbox.waiting.push({ resolve, reject }));
  }

  async close(): Promise<void> {
    this.#link.sendControl("bye");
    this.#failure ??= new PeerLostError(this.#link.peer, "the pipeline is closed");
    await this.#link.end();
  }

  #mailbox({ operation }: FrameHeader): Mailbox {
    if (operation !== "forward" && operation !== "back") throw new Error(`it sent ${operation} to a stage`);
    return this.#mailboxes[operation];
  }

  /** Where a frame belongs: the next part of the array that is being received, or a new one. */
  #place(header: FrameHeader): Float32Array {
    const mailbox = this.#mailbox(header);
    if (header.sequence === 0) {
      mailbox.partial.push(sharedFloats(header.elements));
      mailbox.filled = 0;
    }
    const array = mailbox.partial.at(-1);
    const from = mailbox.filled;
    const to = from + header.payloadBytes / Float32Array.BYTES_PER_ELEMENT;
    if (!array || from !== header.sequence * frameElements || to > array.length)
      throw new Error(`it sent part ${header.sequence} of an array, which is not the one that comes next`);
    mailbox.filled = to;
    return array.subarray(from, to);
  }

  #arrived(header: FrameHeader): void {
    const mailbox = this.#mailbox(header);
    if (header.index > 0 || mailbox.filled < header.elements) return;
    const arrays = mailbox.partial;
    mailbox.partial = [];
    const waiting = mailbox.waiting.shift();
    if (waiting) waiting.resolve(arrays);
    else mailbox.arrived.push(arrays);
  }

  #fail(why: string): void {
    this.#failure ??= new PeerLostError(this.#link.peer, why);
    for (const { waiting } of Object.values(this.#mailboxes))
      for (const { reject } of waiting.splice(0)) reject(this.#failure);
  }
}
