import { RingListener } from "../src/collectives/ring-connect.ts";
import { TcpRing, type RingOptions } from "../src/collectives/tcp-ring.ts";

/** Ranks of one process in a ring over this machine's TCP. */
export async function localRing(worldSize: number, change: Partial<RingOptions> = {}): Promise<TcpRing[]> {
  const listeners = await Promise.all(
    Array.from({ length: worldSize }, async () => await RingListener.open("127.0.0.1")),
  );
  const peers = listeners.map(({ address }) => address);
  const rings = await Promise.all(
    listeners.map(
      async (listener, rank) =>
        await TcpRing.connect(listener, { rank, peers, epoch: 1, token: "secret", connectMs: 10_000, ...change }),
    ),
  );
  for (const listener of listeners) listener.close();
  return rings;
}
