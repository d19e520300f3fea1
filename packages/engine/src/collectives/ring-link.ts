import type { Socket } from "node:net";
import type { ExactReader } from "./exact-reader.ts";
import { headerBytes, readHeader, writeHeader, type FrameHeader, type FrameKind } from "./frame.ts";

/** Who is told what comes over a link. */
export interface LinkHandler {
  /** Where the payload of a data frame belongs. Throwing ends the link with the error's message. */
  place(header: FrameHeader): readonly Uint8Array[];
  /** The payload lies where `place` said. */
  arrived(header: FrameHeader): void;
  /** A frame without numbers; `text` is the reason of an abort. */
  control(header: FrameHeader, text: string): void;
  /** The peer is gone, without a word of farewell. Called once. */
  lost(why: string): void;
}

/** The longest reason of an abort, in bytes. */
const longestReason = 2048;

/** How long a link that was closed may take to deliver what was written. */
const closingMs = 2000;

/** A connection to a neighbour of the ring whose handshake is done. */
export class RingLink {
  readonly peer: number;
  readonly #epoch: number;
  readonly #socket: Socket;
  readonly #reader: ExactReader;
  readonly #header = Buffer.alloc(headerBytes);
  #handler: LinkHandler | null = null;
  readonly #early: FrameHeader[] = [];
  #hasEnded = false;
  #departed = false;
  #fault: string | null = null;
  #heardCount = 0;
  #heardAtMs: number;
  #sentBytes = 0;

  constructor(socket: Socket, reader: ExactReader, peer: number, epoch: number, nowMs: number) {
    this.peer = peer;
    this.#epoch = epoch;
    this.#socket = socket;
    this.#reader = reader;
    this.#heardAtMs = nowMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 10_000);
    socket.on("error", (error) => (this.#fault ??= `its connection was cut (${error.message})`));
    socket.once("close", () => this.#lose(this.#fault ?? "its connection was closed"));
    this.#expectHeader();
    socket.resume(); // without it the end of the stream would not be seen
  }

  /** From now on `handler` is told. */
  attach(handler: LinkHandler): void {
    this.#handler = handler;
    for (const header of this.#early.splice(0)) handler.control(header, "");
    if (this.#socket.destroyed) this.#lose(this.#fault ?? "its connection was closed");
  }

  /** Bytes that wait to be sent. */
  get waitingBytes(): number {
    return this.#socket.writableLength;
  }

  /** True once the peer said that it leaves. */
  get hasDeparted(): boolean {
    return this.#departed;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  get receivedBytes(): number {
    return this.#reader.count;
  }

  /** How long the peer has said nothing. */
  silentMs(nowMs: number): number {
    if (this.#reader.count !== this.#heardCount) {
      this.#heardCount = this.#reader.count;
      this.#heardAtMs = nowMs;
    }
    return nowMs - this.#heardAtMs;
  }

  sendControl(kind: Exclude<FrameKind, "data">, sequence = 0, index = 0, reason = ""): void {
    const payload = Buffer.from(reason).subarray(0, longestReason);
    this.#write(
      writeHeader({
        kind,
        operation: "none",
        epoch: this.#epoch,
        sequence,
        index,
        payloadBytes: payload.length,
        elements: 0,
      }),
    );
    if (payload.length > 0) this.#write(payload);
  }

  /** Sends numbers from where they lie; `whenFlushed` is called when the memory may be changed again. */
  sendData(header: Omit<FrameHeader, "kind" | "epoch">, payload: readonly Uint8Array[], whenFlushed: () => void): void {
    this.#socket.cork();
    const last = payload.at(-1);
    this.#write(
      writeHeader({ ...header, kind: "data", epoch: this.#epoch }),
      last === undefined ? whenFlushed : undefined,
    );
    for (const part of payload) this.#write(part, part === last ? whenFlushed : undefined);
    this.#socket.uncork();
  }

  /**
   * Closes: what was written is sent, and what still comes is read, since closing over unread bytes would cut off the peer
   * before it has read ours. Ends when the peer has closed too, or after two seconds.
   */
  async end(): Promise<void> {
    this.#hasEnded = true;
    const socket = this.#socket;
    if (socket.closed) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => socket.destroy(), closingMs);
      socket.once("close", () => {
        clearTimeout(timer);
        resolve();
      });
      socket.end();
    });
  }

  #write(bytes: Uint8Array, whenFlushed?: () => void): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#sentBytes += bytes.length;
    this.#socket.write(bytes, (error) => {
      if (!error) whenFlushed?.();
    });
  }

  #expectHeader(): void {
    this.#reader.expect(this.#header, () => this.#headerArrived());
  }

  #headerArrived(): void {
    const header = readHeader(this.#header);
    if (header === null) return this.#break("it sent something that is no frame");
    if (header.epoch !== this.#epoch) return this.#break(`it sent a frame of attempt ${header.epoch}`);
    if (header.kind === "data") return this.#readData(header);
    if (header.payloadBytes > longestReason)
      return this.#break(`it sent a ${header.kind} of ${header.payloadBytes} bytes`);
    if (header.payloadBytes === 0) {
      this.#expectHeader();
      return this.#controlArrived(header, "");
    }
    const text = Buffer.alloc(header.payloadBytes);
    this.#reader.expect(text, () => {
      this.#expectHeader();
      this.#controlArrived(header, text.toString());
    });
  }

  #controlArrived(header: FrameHeader, text: string): void {
    if (header.kind === "bye") this.#departed = true;
    if (this.#handler) this.#handler.control(header, text);
    else if (header.kind !== "heartbeat") this.#early.push(header);
  }

  #readData(header: FrameHeader): void {
    let places: readonly Uint8Array[];
    try {
      if (!this.#handler) throw new Error("it sent numbers before they were asked for");
      places = this.#handler.place(header);
    } catch (error) {
      return this.#break(error instanceof Error ? error.message : String(error));
    }
    const readInto = (index: number): void => {
      const place = places[index];
      if (place) return this.#reader.expect(place, () => readInto(index + 1));
      this.#expectHeader();
      this.#handler?.arrived(header);
    };
    readInto(0);
  }

  /** Ends a link whose peer does not keep to the protocol. */
  #break(why: string): void {
    this.#fault ??= why;
    this.#expectHeader();
    this.#socket.destroy();
    this.#lose(why);
  }

  #lose(why: string): void {
    if (this.#hasEnded || this.#departed) return;
    const handler = this.#handler;
    if (!handler) return; // told when somebody attaches
    this.#hasEnded = true;
    handler.lost(why);
  }
}
