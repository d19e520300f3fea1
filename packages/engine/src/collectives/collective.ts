import { UnavailableError } from "@drydock/kit";

/** Numbers that ranks exchange in place. */
export type NumberArray = Float32Array | Float64Array;

/**
 * What the ranks of an attempt do together. Every rank calls the same operations in the same order with the same lengths;
 * several buffers count as one vector, their concatenation. Operations run one after another in the order of the calls.
 * A buffer must not be touched until its operation has ended.
 *
 * Every operation rejects with `PeerLostError` once a rank is lost, and so does each one after it.
 */
export interface Collective {
  readonly rank: number;
  readonly worldSize: number;
  /** The same ranks, for what goes on beside other work and is waited for later; absent: there is no difference. */
  readonly background?: Collective;
  /** Each element becomes its sum over all ranks: the same bytes on every rank, in an order of additions that never changes. */
  allReduceSum(buffers: readonly NumberArray[]): Promise<void>;
  /** As `allReduceSum`, but only this rank's shard (`shardOf`) holds the sums; the rest is left as scratch. */
  reduceScatterSum(buffers: readonly NumberArray[]): Promise<void>;
  /** Each rank gives its shard (`shardOf`) of the vector; afterwards every rank holds all shards. */
  allGather(buffers: readonly NumberArray[]): Promise<void>;
  /** Every rank's buffers become those of rank `root`. */
  broadcast(buffers: readonly NumberArray[], root: number): Promise<void>;
  /** Ends when every rank has called it. */
  barrier(): Promise<void>;
  /** Leaves. With a reason: every other rank's operations end with it; without, the others may finish what they need not us for. */
  close(failure?: string): Promise<void>;
}

/** Elements `[start, end)` of a vector. */
export interface Shard {
  readonly start: number;
  readonly end: number;
}

/** The elements that a rank owns: equal parts in the order of the ranks, the last ones shorter or empty. */
export function shardOf(length: number, rank: number, worldSize: number): Shard {
  const share = Math.ceil(length / worldSize);
  return { start: Math.min(length, rank * share), end: Math.min(length, (rank + 1) * share) };
}

/** A rank of the attempt is gone or has given up: the attempt is over, its next one resumes. */
export class PeerLostError extends UnavailableError {
  readonly lostRank: number;
  readonly why: string;

  constructor(lostRank: number, why: string) {
    super("peer_lost", `rank ${lostRank} was lost: ${why}`);
    this.lostRank = lostRank;
    this.why = why;
  }
}
