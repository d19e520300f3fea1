import { setTimeout as delay } from "node:timers/promises";
import { PeerLostError, shardOf, type Collective, type NumberArray } from "../collective.ts";
import { Vector } from "../vector.ts";
import { uniqueIdBytes, type ElementType, type Handle, type NcclLibrary } from "./nccl-library.ts";

/** A ring that knows when a rank is lost, whoever notices it. */
export interface WatchfulRing extends Collective {
  readonly failure: PeerLostError | null;
}

export interface NcclOptions {
  readonly library: NcclLibrary;
  /** The GPU of this rank, as its process counts them. */
  readonly device: number;
}

/** Vectors below this size go over TCP: the way to the device and back would take longer. In bytes. */
const leastBytes = 64 << 10;

/** How long the process's other work gets between looks at the stream. */
const pollMs = 1;

/**
 * Sums over GPUs by NCCL. The ring stays beside it: it made the ranks known to each other and authenticated them, carries
 * NCCL's unique id and small vectors, and notices a rank that is gone, at which NCCL alone would wait for ever.
 *
 * Vectors are those of the host: they are copied to the device and back. Works on one thread; the library's calls only
 * queue work, except for the one that makes the communicator.
 */
export class NcclCollective implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly #ring: WatchfulRing;
  readonly #library: NcclLibrary;
  readonly #communicator: Handle;
  readonly #stream: Handle;
  #memory: Handle = 0n;
  #memoryBytes = 0;
  #order: Promise<void> = Promise.resolve();
  #failure: Error | null = null;

  private constructor(ring: WatchfulRing, library: NcclLibrary, communicator: Handle, stream: Handle) {
    this.rank = ring.rank;
    this.worldSize = ring.worldSize;
    this.#ring = ring;
    this.#library = library;
    this.#communicator = communicator;
    this.#stream = stream;
  }

  /** Makes the communicator; every rank of the ring calls it. @throws NcclError, PeerLostError */
  static async connect(ring: WatchfulRing, { library, device }: NcclOptions): Promise<NcclCollective> {
    library.setDevice(device);
    const id = new Uint8Array(uniqueIdBytes);
    if (ring.rank === 0) id.set(library.uniqueId());
    await ring.broadcast([new Float64Array(id.buffer)], 0);
    const communicator = library.initRank(id, ring.rank, ring.worldSize);
    return new NcclCollective(ring, library, communicator, library.createStream());
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    const vector = new Vector(buffers);
    if (isSmall(vector)) return await this.#ring.allReduceSum(buffers);
    await this.#run(vector, (memory, type) => {
      this.#library.allReduce(memory, vector.length, type, this.#communicator, this.#stream);
    });
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    const vector = new Vector(buffers);
    if (isSmall(vector)) return await this.#ring.reduceScatterSum(buffers);
    await this.#run(vector, (memory, type, own, share) => {
      this.#library.reduceScatter(memory, own, share, type, this.#communicator, this.#stream);
    });
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    const vector = new Vector(buffers);
    if (isSmall(vector)) return await this.#ring.allGather(buffers);
    await this.#run(vector, (memory, type, own, share) => {
      this.#library.allGather(own, memory, share, type, this.#communicator, this.#stream);
    });
  }

  async broadcast(buffers: readonly NumberArray[], root: number): Promise<void> {
    const vector = new Vector(buffers);
    if (isSmall(vector)) return await this.#ring.broadcast(buffers, root);
    await this.#run(vector, (memory, type) => {
      this.#library.broadcast(memory, vector.length, type, root, this.#communicator, this.#stream);
    });
  }

  async barrier(): Promise<void> {
    await this.#order;
    await this.#ring.barrier();
  }

  async close(failure?: string): Promise<void> {
    if (failure === undefined) await this.#order;
    if (this.#failure === null) {
      this.#failure = new PeerLostError(this.rank, "it has left the ring");
      if (failure === undefined) this.#library.destroy(this.#communicator);
      else this.#library.abort(this.#communicator);
    }
    this.#library.free(this.#memory);
    this.#memory = 0n;
    this.#library.destroyStream(this.#stream);
    await this.#ring.close(failure);
  }

  /**
   * Copies the vector to the device, queues an operation and copies the result back.
   *
   * @param queue  gets the vector's place on the device, the place of this rank's share, and the share's elements
   */
  async #run(
    vector: Vector,
    queue: (memory: Handle, type: ElementType, own: Handle, share: number) => void,
  ): Promise<void> {
    const result = this.#order.then(async () => {
      if (this.#failure) throw this.#failure;
      try {
        await this.#carryOut(vector, queue);
      } catch (error) {
        this.#failure ??= error instanceof Error ? error : new Error(String(error));
        throw this.#failure;
      }
    });
    this.#order = result.catch(() => undefined);
    await result;
  }

  async #carryOut(
    vector: Vector,
    queue: (memory: Handle, type: ElementType, own: Handle, share: number) => void,
  ): Promise<void> {
    const { end, start } = shardOf(vector.length, 0, this.worldSize);
    const share = end - start;
    const width = vector.bytesPerElement;
    // Shares are equal on the device: the last ones may reach beyond the vector's end.
    const memory = this.#room(share * this.worldSize * width);
    const place = (element: number): Handle => memory + BigInt(element * width);
    const slices = vector.slices(0, vector.length);
    let at = 0;
    for (const slice of slices) {
      this.#library.copyIn(place(at), slice, this.#stream);
      at += slice.length;
    }
    queue(memory, width === 8 ? "float64" : "float32", place(this.rank * share), share);
    at = 0;
    for (const slice of slices) {
      this.#library.copyOut(slice, place(at), this.#stream);
      at += slice.length;
    }
    await this.#untilDone();
  }

  async #untilDone(): Promise<void> {
    while (!this.#library.isStreamDone(this.#stream)) {
      const error = this.#library.asyncError(this.#communicator);
      const lost = this.#ring.failure;
      if (error !== 0 || lost !== null) {
        this.#library.abort(this.#communicator);
        throw lost ?? new Error(`NCCL gave up: ${this.#library.errorText(error)}`);
      }
      await delay(pollMs);
    }
  }

  /** Memory of the device for so many bytes, kept for the next operation. */
  #room(bytes: number): Handle {
    if (bytes > this.#memoryBytes) {
      this.#library.free(this.#memory);
      this.#memoryBytes = 0;
      this.#memory = this.#library.allocate(bytes);
      this.#memoryBytes = bytes;
    }
    return this.#memory;
  }
}

function isSmall(vector: Vector): boolean {
  return vector.length * vector.bytesPerElement < leastBytes;
}
