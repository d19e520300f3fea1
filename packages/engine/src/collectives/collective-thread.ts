/*
 * What runs on the collective thread: the ring's sockets and the additions. The numbers lie in shared memory, so the
 * training thread goes on with backward or the optimizer meanwhile, and signs of life go out while it is busy.
 */
import { parentPort } from "node:worker_threads";
import { messageOf } from "@drydock/kit";
import type {
  CollectiveAnswer,
  CollectiveEnvelope,
  CollectiveReply,
  CollectiveRequest,
} from "./collective-messages.ts";
import { PeerLostError } from "./collective.ts";
import { RingListener } from "./ring-connect.ts";
import { TcpRing } from "./tcp-ring.ts";

const port = parentPort;
if (!port) throw new Error("collective-thread.ts is started by threaded-ring.ts, as a worker thread");

let listener: RingListener | null = null;
let ring: TcpRing | null = null;

async function answer(request: CollectiveRequest): Promise<CollectiveAnswer> {
  switch (request.kind) {
    case "listen":
      listener = await RingListener.open(request.host, request.port);
      return listener.address;
    case "connect": {
      if (!listener) throw new Error("the thread does not listen yet");
      ring = await TcpRing.connect(listener, request.options);
      listener.close();
      return undefined;
    }
    case "run":
      await opened()[request.operation](request.buffers);
      return undefined;
    case "broadcast":
      await opened().broadcast(request.buffers, request.root);
      return undefined;
    case "barrier":
      await opened().barrier();
      return undefined;
    case "traffic":
      return opened().traffic();
    case "close":
      listener?.close();
      await ring?.close(request.failure);
      return undefined;
    default:
      throw new Error(`unknown request ${String(request satisfies never)}`);
  }
}

function opened(): TcpRing {
  if (!ring) throw new Error("the ring is not closed yet: connect first");
  return ring;
}

async function reply({ id, request }: CollectiveEnvelope): Promise<CollectiveReply> {
  try {
    return { id, answer: await answer(request) };
  } catch (error) {
    const lost = error instanceof PeerLostError ? { rank: error.lostRank, why: error.why } : null;
    return { id, failure: messageOf(error), lost };
  }
}

port.on("message", (envelope: CollectiveEnvelope) => {
  void reply(envelope).then((message) => port.postMessage(message));
});
