import type { Collective } from "../collectives/collective.ts";

/** Which way a message goes: those of one way arrive in the order in which they were sent. */
export type Way = "forward" | "back";

/** Arrays from one stage to another. */
export interface StageChannel {
  /** Sends arrays, none of them empty, which must not be changed before the answer to them has come. */
  send(way: Way, arrays: readonly Float32Array[]): void;
  /** The next message of a way, in memory of its own. @throws PeerLostError when it cannot come any more */
  receive(way: Way): Promise<Float32Array[]>;
}

/**
 * A rank's place in a pipeline. Ranks are numbered stage by stage: rank `r` has stage `r mod stages`, and works on the rows
 * of data rank `⌊r / stages⌋`.
 */
export interface PipelineStage {
  readonly stage: number;
  readonly stages: number;
  readonly dataRank: number;
  /** The ranks of the same stage, each on its rows; null when there is one. */
  readonly sameStage: Collective | null;
  /** Null for the first stage. */
  readonly previous: StageChannel | null;
  /** Null for the last stage. */
  readonly next: StageChannel | null;
  /** Between the first stage and the last one, for weights that both use; null for the others. */
  readonly ends: StageChannel | null;
}
