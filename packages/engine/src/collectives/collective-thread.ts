/*
 * What runs on the collective thread: the ring's sockets and the additions. The numbers lie in shared memory, so the
 * training thread goes on with backward or the optimizer meanwhile, and signs of life go out while it is busy.
 */
import { InvalidError } from "@drydock/kit";
import { serveThread } from "../runtime/serve-thread.ts";
import type { CollectiveAnswer, CollectiveRequest } from "./collective-messages.ts";
import { PeerLostError, type Collective } from "./collective.ts";
import { RingListener } from "./ring-connect.ts";
import { TcpRing } from "./tcp-ring.ts";

let listener: RingListener | null = null;
let ring: TcpRing | null = null;
/** The ring, or NCCL with the ring beside it. */
let collective: Collective | null = null;

async function answer(request: CollectiveRequest): Promise<CollectiveAnswer> {
  switch (request.kind) {
    case "listen":
      listener = await RingListener.open(request.host, request.port);
      return { kind: "listening", address: listener.address };
    case "connect": {
      if (!listener) throw new Error("the thread does not listen yet");
      ring = await TcpRing.connect(listener, request.options);
      listener.close();
      collective = request.gpu === null ? ring : await onGpu(ring, request.gpu);
      break;
    }
    case "run":
      await opened()[request.operation](request.buffers);
      break;
    case "broadcast":
      await opened().broadcast(request.buffers, request.root);
      break;
    case "barrier":
      await opened().barrier();
      break;
    case "traffic":
      return { kind: "traffic", traffic: ring?.traffic() ?? { sentBytes: 0, receivedBytes: 0 } };
    case "close":
      listener?.close();
      await (collective ?? ring)?.close(request.failure);
      break;
    default:
      throw new Error(`unknown request ${String(request satisfies never)}`);
  }
  return { kind: "done" };
}

/** NVIDIA's libraries are looked for only where they are asked for. */
async function onGpu(closed: TcpRing, device: number): Promise<Collective> {
  const [{ NcclCollective }, { NcclLibrary }] = await Promise.all([
    import("./nccl/nccl-collective.ts"),
    import("./nccl/nccl-library.ts"),
  ]);
  return await NcclCollective.connect(closed, { library: new NcclLibrary(), device });
}

function opened(): Collective {
  if (!collective) throw new Error("the ring is not closed yet: connect first");
  return collective;
}

serveThread(async (request: CollectiveRequest): Promise<CollectiveAnswer> => {
  try {
    return await answer(request);
  } catch (error) {
    if (error instanceof PeerLostError) return { kind: "lost", rank: error.lostRank, why: error.why };
    if (error instanceof InvalidError) return { kind: "refused", code: error.code, message: error.message };
    throw error;
  }
});
