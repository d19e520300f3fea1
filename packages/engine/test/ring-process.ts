/* One rank of a ring as a process, told what to do by its parent: for tests and the benchmark. */
import { createHash } from "node:crypto";
import { PeerLostError } from "../src/collectives/collective.ts";
import { RingThread, type ThreadedRing } from "../src/collectives/threaded-ring.ts";
import type { RingOptions } from "../src/collectives/tcp-ring.ts";
import { sharedFloats } from "../src/runtime/shared-floats.ts";

interface Order {
  readonly connect?: RingOptions;
  readonly reduce?: number;
  readonly times?: number;
  readonly blockMs?: number;
  readonly leave?: boolean;
}

const thread = await RingThread.listen("127.0.0.1");
let ring: ThreadedRing | null = null;

function say(message: object): void {
  process.send?.(message);
}

async function obey(order: Order): Promise<void> {
  if (order.connect) {
    ring = await thread.connect(order.connect);
    return say({ connected: true });
  }
  if (order.blockMs !== undefined) return block(order.blockMs);
  if (!ring) throw new Error("not connected");
  if (order.leave) {
    await ring.close();
    process.disconnect();
    return;
  }
  const { rank } = ring;
  const vector = sharedFloats(order.reduce ?? 0);
  const times: number[] = [];
  const before = await ring.traffic();
  for (let turn = 0; turn < (order.times ?? 1); turn++) {
    vector.forEach((_, index) => (vector[index] = Math.sin(index + rank) * 10 ** (index % 5)));
    const startedMs = performance.now();
    await ring.allReduceSum([vector]);
    times.push(performance.now() - startedMs);
    if (turn === 0) say({ began: true });
  }
  const after = await ring.traffic();
  say({
    digest: createHash("sha256").update(Buffer.from(vector.buffer)).digest("hex"),
    times,
    sentBytes: after.sentBytes - before.sentBytes,
  });
}

/** Keeps this thread from doing anything else. */
function block(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

process.on("message", (order: Order) => {
  obey(order).catch((error: unknown) => {
    say(
      error instanceof PeerLostError
        ? { lostRank: error.lostRank, message: error.message }
        : { failure: error instanceof Error ? (error.stack ?? error.message) : String(error) },
    );
  });
});
say({ address: thread.address });
