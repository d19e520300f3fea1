import { RingThread, type ThreadedRing } from "@drydock/engine";
import { InvalidError, messageOf } from "@drydock/kit";
import type { RankSettings } from "../commands/rank-environment.ts";

/** Where the next rank will connect to; null when there is no other. @throws InvalidError when that address is not ours */
export async function openRing({ worldSize, listenHost }: RankSettings): Promise<RingThread | null> {
  if (worldSize === 1) return null;
  try {
    return await RingThread.listen(listenHost);
  } catch (error) {
    throw new InvalidError(
      "bad_listen_host",
      `DRYDOCK_LISTEN_HOST is ${listenHost}, where this rank cannot listen for the others (${messageOf(error)}): give it an address of this machine`,
      { cause: error },
    );
  }
}

/**
 * Closes the ring with the ranks at `peers`, unless `signal` ends the wait for them.
 *
 * @throws PeerLostError naming the rank that did not come
 */
export async function closeRing(
  thread: RingThread,
  { rank, worldSize, epoch, token, collective }: RankSettings,
  peers: readonly string[],
  signal: AbortSignal,
): Promise<ThreadedRing> {
  if (peers.length !== worldSize) {
    throw new InvalidError(
      "invalid_peers",
      `the controller named ${peers.length} ranks, DRYDOCK_WORLD_SIZE says ${worldSize}: are both of the same attempt?`,
    );
  }
  const giveUp = (): void => void thread.close();
  signal.addEventListener("abort", giveUp);
  try {
    return await thread.connect({ rank, peers, epoch, token }, collective === "nccl" ? 0 : null);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}
