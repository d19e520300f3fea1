import { InvalidError } from "@drydock/kit";
import { ThreadClient } from "../runtime/thread-client.ts";
import type { CollectiveAnswer, CollectiveRequest } from "./collective-messages.ts";
import { PeerLostError, type Collective, type NumberArray } from "./collective.ts";
import type { RingOptions, Traffic } from "./tcp-ring.ts";

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
      return new RingThread(calls, (await calls.ask({ kind: "listen", host, port }, "listening")).address);
    } catch (error) {
      await calls.end();
      throw error;
    }
  }

  /**
   * Closes the ring.
   *
   * @param gpu  the GPU whose memory NCCL sums in; null: sums go over TCP
   * @throws PeerLostError naming the neighbour that did not come in time
   * @throws InvalidError when the ranks are to use NCCL and it is not there
   */
  async connect(options: RingOptions, gpu: number | null = null): Promise<ThreadedRing> {
    await this.#calls.ask({ kind: "connect", options, gpu }, "done");
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
    await this.#calls.ask({ kind: "barrier" }, "done");
  }

  /** What went over the wire. */
  async traffic(): Promise<Traffic> {
    return (await this.#calls.ask({ kind: "traffic" }, "traffic")).traffic;
  }

  async close(failure?: string): Promise<void> {
    await this.#calls.ask({ kind: "close", failure }, "done");
    await this.#calls.end();
  }

  async #run(
    buffers: readonly NumberArray[],
    requestOf: (shared: readonly NumberArray[]) => CollectiveRequest,
  ): Promise<void> {
    const shared = buffers.map(inSharedMemory);
    await this.#calls.ask(requestOf(shared), "done");
    buffers.forEach((buffer, index) => {
      const copy = shared[index] as NumberArray;
      if (copy !== buffer) buffer.set(copy);
    });
  }
}

/** Questions to one thread. */
class ThreadCalls {
  readonly #client = new ThreadClient<CollectiveRequest, CollectiveAnswer>(
    new URL("collective-thread.ts", import.meta.url),
  );
  #isEnded = false;

  async ask<K extends Exclude<CollectiveAnswer["kind"], "lost" | "refused">>(
    request: CollectiveRequest,
    kind: K,
  ): Promise<Extract<CollectiveAnswer, { kind: K }>> {
    if (this.#isEnded) throw new Error("the collective is closed");
    const answer = await this.#client.ask(request);
    if (answer.kind === "refused") throw new InvalidError(answer.code, answer.message);
    if (answer.kind === "lost") throw new PeerLostError(answer.rank, answer.why);
    if (answer.kind !== kind) throw new Error(`the collective thread answered ${answer.kind} to ${request.kind}`);
    return answer as Extract<CollectiveAnswer, { kind: K }>;
  }

  async end(): Promise<void> {
    this.#isEnded = true;
    await this.#client.close();
  }
}

function inSharedMemory(array: NumberArray): NumberArray {
  if (array.buffer instanceof SharedArrayBuffer) return array;
  const memory = new SharedArrayBuffer(array.byteLength);
  const shared = array instanceof Float32Array ? new Float32Array(memory) : new Float64Array(memory);
  shared.set(array);
  return shared;
}
