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

/** A rank's place among the ranks of the attempt. */
interface Place {
  readonly rank: number;
  readonly stage: number;
  readonly dataRank: number;
  /** Ranks of the first and the last stage that work on the same rows. */
  readonly first: number;
  readonly last: number;
  /** Of two stages the ends are neighbours. */
  readonly hasFarEnds: boolean;
}

/** What others connect to. */
interface Doors {
  readonly next: RingListener | null;
  readonly ends: RingListener | null;
  readonly sameStage: RingThread | null;
}

/**
 * Connects the stages of a pipeline, and the ranks of one stage to a ring. Addresses are told over the collective that all
 * ranks have. Every rank calls it.
 *
 * @throws PeerLostError naming the rank that did not come
 */
export async function openPipeline(options: OpenPipelineOptions): Promise<OpenPipeline> {
  const { collective, stages } = options;
  const place = placeOf(collective.rank, stages);
  const doors = await openDoors(place, options);
  try {
    const own: Addresses = {
      next: doors.next?.address ?? "",
      ends: doors.ends?.address ?? "",
      sameStage: doors.sameStage?.address ?? "",
    };
    const texts = await exchangeTexts(collective, JSON.stringify(own));
    return await connectStages(
      place,
      doors,
      texts.map((text) => JSON.parse(text) as Addresses),
      options,
    );
  } catch (error) {
    await doors.sameStage?.close();
    throw error;
  } finally {
    doors.next?.close();
    doors.ends?.close();
  }
}

function placeOf(rank: number, stages: number): Place {
  const dataRank = Math.floor(rank / stages);
  const first = dataRank * stages;
  return { rank, stage: rank % stages, dataRank, first, last: first + stages - 1, hasFarEnds: stages > 2 };
}

async function openDoors(
  { rank, first, last, hasFarEnds }: Place,
  { host, collective, stages }: OpenPipelineOptions,
): Promise<Doors> {
  return {
    next: rank === last ? null : await RingListener.open(host),
    ends: rank === first && hasFarEnds ? await RingListener.open(host) : null,
    sameStage: collective.worldSize > stages ? await RingThread.listen(host) : null,
  };
}

async function connectStages(
  place: Place,
  doors: Doors,
  all: readonly Addresses[],
  { collective, stages, epoch, token }: OpenPipelineOptions,
): Promise<OpenPipeline> {
  const { rank, stage, dataRank, first, last } = place;
  const identity: RingIdentity = { rank, worldSize: collective.worldSize, epoch, token };
  const dialled = async (other: number, door: "next" | "ends"): Promise<StageLink> =>
    await StageLink.dial((all[other] as Addresses)[door], identity, other);
  const peers = all.filter((_, other) => other % stages === stage).map(({ sameStage }) => sameStage);
  const [previous, next, farEnd, sameStage] = await Promise.all([
    rank === first ? null : dialled(rank - 1, "next"),
    doors.next && StageLink.accept(doors.next, identity, rank + 1),
    rank === last && place.hasFarEnds
      ? dialled(first, "ends")
      : doors.ends && StageLink.accept(doors.ends, identity, last),
    doors.sameStage && doors.sameStage.connect({ rank: dataRank, peers, epoch, token }),
  ]);
  return {
    stage,
    stages,
    dataRank,
    sameStage,
    previous,
    next,
    ends: place.hasFarEnds ? farEnd : (next ?? previous),
    close: async () => {
      await Promise.all([previous?.close(), next?.close(), farEnd?.close(), sameStage?.close()]);
    },
  };
}
