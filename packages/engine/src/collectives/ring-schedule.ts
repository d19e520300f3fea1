import { shardOf } from "./collective.ts";

/** Elements `[from, to)` of the vector that travel as one frame. */
export interface Piece {
  readonly from: number;
  readonly to: number;
}

/**
 * What one rank sends to its next and receives from the one before it, in order. The order alone decides in which order
 * numbers are added, so that timing never changes a result.
 */
export interface RingSchedule {
  readonly sends: readonly Piece[];
  readonly receives: readonly Piece[];
  /** So many of the first received pieces are added to what is there; the others replace it. */
  readonly added: number;
  /** Piece `i` of `sends` may leave once `i - lag + 1` pieces have arrived. */
  readonly lag: number;
}

export type RingOperation = "all-reduce" | "reduce-scatter" | "all-gather" | "broadcast";

/**
 * The ring algorithm of Patarasuk and Yuan (2009): reduce-scatter, then all-gather, each in n−1 steps in which every rank
 * passes one of n shards on. A shard's sum starts at the rank after its owner and ends at its owner. Each shard is cut into
 * pieces, so that a piece is passed on while the next one arrives.
 *
 * @param pieceLength  most elements of one frame
 * @param root         who sends; of `broadcast` only
 */
export function ringSchedule(
  operation: RingOperation,
  length: number,
  rank: number,
  worldSize: number,
  pieceLength: number,
  root = 0,
): RingSchedule {
  if (operation === "broadcast")
    return broadcastSchedule(length, (rank - root + worldSize) % worldSize, worldSize, pieceLength);
  const lag = Math.max(1, Math.ceil(Math.ceil(length / worldSize) / pieceLength));
  const piecesOf = (owner: number): Piece[] => {
    const { start, end } = shardOf(length, (owner + 2 * worldSize) % worldSize, worldSize);
    return Array.from({ length: lag }, (_, index) => ({
      from: Math.min(end, start + index * pieceLength),
      to: Math.min(end, start + (index + 1) * pieceLength),
    }));
  };
  const steps = Array.from({ length: worldSize - 1 }, (_, step) => step);
  const sends: Piece[] = [];
  const receives: Piece[] = [];
  let added = 0;
  if (operation !== "all-gather") {
    for (const step of steps) {
      sends.push(...piecesOf(rank - step - 1));
      receives.push(...piecesOf(rank - step - 2));
    }
    added = receives.length;
  }
  if (operation !== "reduce-scatter") {
    for (const step of steps) {
      sends.push(...piecesOf(rank - step));
      receives.push(...piecesOf(rank - step - 1));
    }
  }
  return { sends, receives, added, lag };
}

/** From the root along the ring; the last rank passes nothing on. */
function broadcastSchedule(length: number, distance: number, worldSize: number, pieceLength: number): RingSchedule {
  const count = Math.max(1, Math.ceil(length / pieceLength));
  const pieces = Array.from({ length: count }, (_, index) => ({
    from: Math.min(length, index * pieceLength),
    to: Math.min(length, (index + 1) * pieceLength),
  }));
  return {
    sends: distance < worldSize - 1 ? pieces : [],
    receives: distance > 0 ? pieces : [],
    added: 0,
    lag: distance === 0 ? Number.POSITIVE_INFINITY : 0,
  };
}
