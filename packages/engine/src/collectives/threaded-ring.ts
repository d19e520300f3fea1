import { Worker } from "node:worker_threads";
import type { CollectiveAnswer, CollectiveReply, CollectiveRequest } from "./collective-messages.ts";
import { PeerLostError, type Collective, type NumberArray } from "./collective.ts";
import type { RingOptions, Traffic } from "./tcp-ring.ts";

interface Waiting {
  readonly resolve: (answer: CollectiveAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** A thread that listens for the next rank; the address goes to the other ranks before the ring can be closed. */
export class RingThread {
  /** `host:port` for the others. */
  readonly address: string;
  readonly #calls: ThreadCalls;

  private constructor(calls: ThreadCalls, address: string) {
    this.#calls = calls;
    this.address = address;
  }

  /** @param host  an address of this machine that the other ranks reach */
  static async listen(host: string, port = 0): Promise<RingThread> {
    const calls = new ThreadCalls();
    try {
      return new RingThread(calls, (await calls.ask({ kind: "listen", host, port })) as string);
    } catch (error) {
      await calls.end();
      throw error;
    }
  }

  /** Closes the ring. @throws PeerLostError naming the neighbour that did not come in time */
  async connect(options: RingOptions): Promise<ThreadedRing> {
    await this.#calls.ask({ kind: "connect", options });
    return new ThreadedRing(this.#calls, options.rank, options.peers.length);
  }

  /** Ends the thread; for a rank that never came to `connect`. */
  async close(): Promise<void> {
    await this.#calls.end();
  }
}

/** A TCP ring on a thread of its own. Numbers in shared memory are worked on in place, others are copied there and back. */
export class ThreadedRing implements Collective {
  readonly rank: number;
  readonly worldSize: number;
  readonly #calls: ThreadCalls;

  constructor(calls: ThreadCalls, rank: number, worldSize: number) {
    this.#calls = calls;
    this.rank = rank;
    this.worldSize = worldSize;
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#run(buffers, (shared) => ({ kind: "run", operation: "allReduceSum", buffers: shared }));
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#run(buffers, (shared) => ({ kind: "run", operation: "reduceScatterSum", buffers: shared }));
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    await this.#run(buffers, (shared) => ({ kind: "run", operation: "allGather", buffers: shared }));
  }

  async broadcast(buffers: readonly NumberArray[], root: number): Promise<void> {
    await this.#run(buffers, (shared) => ({ kind: "broadcast", buffers: shared, root }));
  }

  async barrier(): Promise<void> {
    await this.#calls.ask({ kind: "barrier" });
  }

  /** What went over the wire. */
  async traffic(): Promise<Traffic> {
    return (await this.#calls.ask({ kind: "traffic" })) as Traffic;
  }

  async close(failure?: string): Promise<void> {
    await this.#calls.ask({ kind: "close", failure });
    await this.#calls.end();
  }

  async #run(
    buffers: readonly NumberArray[],
    requestOf: (shared: readonly NumberArray[]) => CollectiveRequest,
  ): Promise<void> {
    const shared = buffers.map(inSharedMemory);
    await this.#calls.ask(requestOf(shared));
    buffers.forEach((buffer, index) => {
      const copy = shared[index] as NumberArray;
      if (copy !== buffer) buffer.set(copy);
    });
  }
}

/** Questions to the thread and their answers. The thread keeps the process alive only while one is open. */
class ThreadCalls {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;
  #failure: Error | null = null;

  constructor() {
    this.#worker = new Worker(new URL("collective-thread.ts", import.meta.url), { execArgv: [] });
    this.#worker.on("message", (reply: CollectiveReply) => this.#settle(reply));
    this.#worker.on("error", (error) => this.#fail(error instanceof Error ? error : new Error(String(error))));
    this.#worker.on("exit", () => this.#fail(new Error("the collective thread has ended")));
    this.#worker.unref();
  }

  async ask(request: CollectiveRequest): Promise<CollectiveAnswer> {
    if (this.#failure) throw this.#failure;
    const id = ++this.#asked;
    this.#worker.ref();
    return await new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, request });
    });
  }

  async end(): Promise<void> {
    this.#failure ??= new Error("the collective is closed");
    await this.#worker.terminate();
  }

  #settle(reply: CollectiveReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (!("failure" in reply)) return waiting?.resolve(reply.answer);
    waiting?.reject(reply.lost ? new PeerLostError(reply.lost.rank, reply.lost.why) : new Error(reply.failure));
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}

function inSharedMemory(array: NumberArray): NumberArray {
  if (array.buffer instanceof SharedArrayBuffer) return array;
  const memory = new SharedArrayBuffer(array.byteLength);
  const shared = array instanceof Float32Array ? new Float32Array(memory) : new Float64Array(memory);
  shared.set(array);
  return shared;
}
