import type { Collective } from "../collectives/collective.ts";
import { exchangeTexts } from "../collectives/exchange-texts.ts";
import type { RingIdentity } from "../collectives/handshake.ts";
import { RingListener } from "../collectives/ring-connect.ts";
import { RingThread, type ThreadedRing } from "../collectives/threaded-ring.ts";
import type { PipelineStage } from "./pipeline-stage.ts";
import { StageLink } from "./stage-link.ts";

export interface OpenPipelineOptions {
  /** All ranks of the attempt; their number is a multiple of the stages. */
  readonly collective: Collective;
  readonly stages: number;
  /** An address of this machine that the other ranks reach. */
  readonly host: string;
  readonly epoch: number;
  readonly token: string;
}

/** A rank's place in a pipeline, with its connections. */
export interface OpenPipeline extends PipelineStage {
  readonly sameStage: ThreadedRing | null;
  readonly previous: StageLink | null;
  readonly next: StageLink | null;
  readonly ends: StageLink | null;
  close(): Promise<void>;
}

/** Where a rank waits for others; empty where it waits for nobody. */
interface Addresses {
  readonly next: string;
  readonly ends: string;
  readonly sameStage: string;
}

/**
 * Connects the stages of a pipeline, and the ranks of one stage to a ring. Addresses are told over the collective that all
 * ranks have. Every rank calls it.
 *
 * @throws PeerLostError naming the rank that did not come
 */
export async function openPipeline(options: OpenPipelineOptions): Promise<OpenPipeline> {
  const { collective, stages, host, epoch, token } = options;
  const { rank, worldSize } = collective;
  const stage = rank % stages;
  const dataRank = Math.floor(rank / stages);
  const first = dataRank * stages;
  const last = first + stages - 1;
  const identity: RingIdentity = { rank, worldSize, epoch, token };
  const forNext = rank === last ? null : await RingListener.open(host);
  // Of two stages the ends are neighbours.
  const forEnds = rank === first && stages > 2 ? await RingListener.open(host) : null;
  const ring = worldSize > stages ? await RingThread.listen(host) : null;
  try {
    const own: Addresses = {
      next: forNext?.address ?? "",
      ends: forEnds?.address ?? "",
      sameStage: ring?.address ?? "",
    };
    const all = (await exchangeTexts(collective, JSON.stringify(own))).map((text) => JSON.parse(text) as Addresses);
    const addressOf = (other: number, door: keyof Addresses): string => (all[other] as Addresses)[door];
    const peers = all.filter((_, other) => other % stages === stage).map(({ sameStage }) => sameStage);
    const [previous, next, farEnd, sameStage] = await Promise.all([
      rank === first ? null : StageLink.dial(addressOf(rank - 1, "next"), identity, rank - 1),
      forNext && StageLink.accept(forNext, identity, rank + 1),
      rank === last && stages > 2
        ? StageLink.dial(addressOf(first, "ends"), identity, first)
        : forEnds && StageLink.accept(forEnds, identity, last),
      ring && ring.connect({ rank: dataRank, peers, epoch, token }),
    ]);
    const ends = stages > 2 ? farEnd : (next ?? previous);
    return {
      stage,
      stages,
      dataRank,
      sameStage,
      previous,
      next,
      ends,
      close: async () => {
        await Promise.all([previous?.close(), next?.close(), farEnd?.close(), sameStage?.close()]);
      },
    };
  } catch (error) {
    await ring?.close();
    throw error;
  } finally {
    forNext?.close();
    forEnds?.close();
  }
}
