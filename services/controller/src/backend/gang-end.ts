import { exitCodes } from "@drydock/kit";
import type { GangEnd, RankEnd } from "./cluster-backend.ts";

/**
 * Finds the rank that is the cause, of ends in the order in which they came: a rank that says what is wrong with config or
 * data, then out of memory, hardware, disruption, a lost node, any other failure; of equals the first. Peers of a rank
 * that failed end too, with codes that say no more than that. Pure.
 *
 * @throws RangeError without an end
 */
export function gangEnd(ends: readonly RankEnd[]): GangEnd {
  const [cause] = ends.toSorted((a, b) => weight(a) - weight(b));
  if (!cause) throw new RangeError("a gang of no ranks cannot end");
  return { cause, ranks: ends.toSorted((a, b) => a.rank - b.rank) };
}

/** True for an end that takes the whole gang with it. */
export function isFailure({ exitCode, reason }: RankEnd): boolean {
  return reason !== "exited" || !(isStop(exitCode) || exitCode === exitCodes.done);
}

const byReason: Readonly<Record<RankEnd["reason"], number>> = {
  "image-unavailable": 1,
  "bad-pod": 1,
  "out-of-memory": 2,
  "disk-full": 3,
  preempted: 4,
  drained: 4,
  "refused-by-node": 5,
  "node-lost": 5,
  deadline: 6,
  exited: 7,
  // Nobody saw it: of two ends the one that was seen says more.
  vanished: 12,
};

function weight({ exitCode, reason }: RankEnd): number {
  if (exitCode === exitCodes.badConfig || exitCode === exitCodes.badData) return 0;
  if (exitCode === exitCodes.outOfMemory) return byReason["out-of-memory"];
  if (exitCode === exitCodes.hardware) return 3;
  if (reason !== "exited") return byReason[reason];
  if (exitCode === exitCodes.done) return 20;
  if (isStop(exitCode)) return 15;
  // A rank that lost its peers asks to be tried again; it is seldom the cause.
  return exitCode === exitCodes.retry ? 10 : byReason.exited;
}

function isStop(exitCode: number | null): boolean {
  return exitCode === exitCodes.interrupted || exitCode === exitCodes.terminated;
}
