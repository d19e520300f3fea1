import { messageOf } from "@drydock/kit";
import { PeerLostError, type Collective, type NumberArray } from "./collective.ts";
import type { FrameHeader } from "./frame.ts";
import type { RingIdentity } from "./handshake.ts";
import { dial, type RingListener } from "./ring-connect.ts";
import type { LinkHandler, RingLink } from "./ring-link.ts";
import { ringSchedule, type RingOperation } from "./ring-schedule.ts";
import { RingTransfer } from "./ring-transfer.ts";
import { Vector } from "./vector.ts";

export interface RingOptions extends Omit<RingIdentity, "worldSize"> {
  /** `host:port` of every rank's listener, in the order of the ranks. */
  readonly peers: readonly string[];
  /** How long the neighbours may take to come. */
  readonly connectMs?: number;
  /** How often a sign of life is sent. */
  readonly heartbeatMs?: number;
  /** A neighbour that says nothing for so long is lost: its machine is gone or its process stands still. */
  readonly silenceMs?: number;
  /** Bytes of one frame's payload at most. */
  readonly pieceBytes?: number;
}

/** Bytes over the wire since the ring was closed, handshake left out. */
export interface Traffic {
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/**
 * Ranks in a ring over TCP: each one receives from the rank before it, to which it connects, and sends to the next one,
 * which connects to it. Numbers are read from and into the callers' memory; besides that a rank holds one piece and what
 * the sockets hold. A piece is only sent once the next rank has said that it waits for it.
 *
 * When a neighbour is gone, this rank tells the ring who it was, so that every rank names the same one.
 */
export class TcpRing implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly #previous: RingLink;
  readonly #next: RingLink;
  readonly #pieceBytes: number;
  readonly #silenceMs: number;
  readonly #staging: ArrayBuffer;
  readonly #heartbeat: NodeJS.Timeout;
  #order: Promise<void> = Promise.resolve();
  #sequence = 0;
  #nextReadyFor = 0;
  #current: RingTransfer | null = null;
  #rejectCurrent: (error: Error) => void = () => undefined;
  #failure: PeerLostError | null = null;
  #ended: Promise<unknown> = Promise.resolve();

  private constructor(options: RingOptions, previous: RingLink, next: RingLink) {
    this.rank = options.rank;
    this.worldSize = options.peers.length;
    this.#previous = previous;
    this.#next = next;
    // A multiple of eight, so that no number is cut in two.
    this.#pieceBytes = Math.max(8, Math.floor((options.pieceBytes ?? 512 << 10) / 8) * 8);
    this.#silenceMs = options.silenceMs ?? 30_000;
    this.#staging = new ArrayBuffer(this.#pieceBytes);
    previous.attach(this.#handlerOf(previous));
    next.attach(this.#handlerOf(next));
    this.#heartbeat = setInterval(() => this.#beat(), options.heartbeatMs ?? 5_000);
  }

  /**
   * Closes the ring: two ranks or more.
   *
   * @throws PeerLostError naming the neighbour that did not come in time
   */
  static async connect(listener: RingListener, options: RingOptions): Promise<TcpRing> {
    const { rank, peers, epoch, token } = options;
    const worldSize = peers.length;
    const identity = { rank, worldSize, epoch, token };
    const giveUp = AbortSignal.timeout(options.connectMs ?? 120_000);
    const before = (rank + worldSize - 1) % worldSize;
    const [previous, next] = await Promise.allSettled([
      dial(peers[before] as string, identity, before, giveUp),
      listener.accept(identity, (rank + 1) % worldSize, giveUp),
    ]);
    if (previous.status === "fulfilled" && next.status === "fulfilled")
      return new TcpRing(options, previous.value, next.value);
    for (const half of [previous, next]) if (half.status === "fulfilled") await half.value.end();
    throw previous.status === "rejected" ? previous.reason : (next as PromiseRejectedResult).reason;
  }

  /** Why no operation is possible any more: a rank that is lost, or this one that has left. */
  get failure(): PeerLostError | null {
    return this.#failure;
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    return await this.#run("all-reduce", buffers);
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    return await this.#run("reduce-scatter", buffers);
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    return await this.#run("all-gather", buffers);
  }

  async broadcast(buffers: readonly NumberArray[], root: number): Promise<void> {
    return await this.#run("broadcast", buffers, root);
  }

  async barrier(): Promise<void> {
    return await this.#run("all-reduce", [new Float32Array(1)]);
  }

  async close(failure?: string): Promise<void> {
    if (failure === undefined) await this.#order;
    else this.#fail(this.rank, failure);
    if (!this.#failure) {
      this.#failure = new PeerLostError(this.rank, "it has left the ring");
      this.#previous.sendControl("bye");
      this.#next.sendControl("bye");
      this.#end();
    }
    await this.#ended;
  }

  /** What went over the wire. */
  traffic(): Traffic {
    return {
      sentBytes: this.#previous.sentBytes + this.#next.sentBytes,
      receivedBytes: this.#previous.receivedBytes + this.#next.receivedBytes,
    };
  }

  async #run(operation: RingOperation, buffers: readonly NumberArray[], root = 0): Promise<void> {
    const vector = new Vector(buffers);
    const result = this.#order.then(async () => await this.#transfer(operation, vector, root));
    this.#order = result.catch(() => undefined);
    return await result;
  }

  async #transfer(operation: RingOperation, vector: Vector, root: number): Promise<void> {
    if (this.#failure) throw this.#failure;
    const pieceLength = this.#pieceBytes / vector.bytesPerElement;
    const schedule = ringSchedule(operation, vector.length, this.rank, this.worldSize, pieceLength, root);
    const sequence = ++this.#sequence;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#rejectCurrent = reject;
        this.#current = new RingTransfer(operation, sequence, vector, schedule, this.#next, this.#staging, resolve);
        this.#failIfDeparted();
        if (this.#failure) return;
        if (this.#current.needsPrevious) this.#previous.sendControl("ready", sequence);
        if (this.#nextReadyFor >= sequence) this.#current.nextIsReady();
        this.#current.start();
      });
    } finally {
      this.#current = null;
    }
  }

  #handlerOf(link: RingLink): LinkHandler {
    return {
      place: (header) => {
        if (!this.#current) throw new Error("it sent numbers before they were asked for");
        return this.#current.place(header);
      },
      arrived: () => this.#current?.arrived(),
      control: (header, text) => this.#control(link, header, text),
      lost: (why) => this.#fail(link.peer, why),
    };
  }

  #control(link: RingLink, header: FrameHeader, text: string): void {
    switch (header.kind) {
      case "ready":
        this.#nextReadyFor = header.sequence;
        if (header.sequence === this.#sequence) this.#current?.nextIsReady();
        return;
      case "abort":
        return this.#fail(header.index, text);
      case "bye":
        return this.#failIfDeparted();
      case "heartbeat":
      case "data":
        return;
      default:
        throw new Error(`rank ${link.peer} sent ${messageOf(header.kind satisfies never)}`);
    }
  }

  /** A neighbour that has left is missed only by an operation that needs it. */
  #failIfDeparted(): void {
    const missed =
      this.#current?.needsPrevious && this.#previous.hasDeparted
        ? this.#previous
        : this.#current?.needsNext && this.#next.hasDeparted
          ? this.#next
          : null;
    const why = "it has left the ring";
    if (missed) this.#fail(missed.peer, why);
  }

  #beat(): void {
    const nowMs = performance.now();
    for (const link of [this.#previous, this.#next]) {
      link.sendControl("heartbeat");
      const silentMs = link.silentMs(nowMs);
      if (silentMs < this.#silenceMs || link.hasDeparted) continue;
      const why = `it said nothing for ${Math.round(silentMs / 100) / 10} s`;
      return this.#fail(link.peer, why);
    }
  }

  #fail(lostRank: number, why: string): void {
    if (this.#failure) return;
    const error = new PeerLostError(lostRank, why);
    this.#failure = error;
    for (const link of [this.#previous, this.#next])
      if (link.peer !== lostRank) link.sendControl("abort", 0, lostRank, why);
    this.#end();
    this.#rejectCurrent(error);
  }

  #end(): void {
    clearInterval(this.#heartbeat);
    this.#ended = Promise.all([this.#previous.end(), this.#next.end()]);
  }
}
