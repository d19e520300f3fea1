import type { JoinInput, ShardOutcome } from "./activities.ts";

const stoppedByOthers = "stopped because another part failed";

/** What is to be joined, from how the shards ended: the failure of one, said with its number, or the time of the slowest. */
export function joinOf(outcomes: readonly ShardOutcome[]): Pick<JoinInput, "failure" | "seconds"> {
  const failed = outcomes.flatMap(({ failure }, index) => (failure === null ? [] : [{ failure, part: index + 1 }]));
  // The one that failed by itself says more than those that were stopped because of it.
  const first = failed.find(({ failure }) => failure !== stoppedByOthers) ?? failed[0];
  if (first) return { failure: `part ${first.part} of ${outcomes.length}: ${first.failure}`, seconds: null };
  const seconds = outcomes.flatMap((outcome) => outcome.seconds ?? []);
  return { failure: null, seconds: seconds.length === 0 ? null : Math.max(...seconds) };
}

/** How a shard ended that was stopped because another had failed. */
export const stoppedShard: ShardOutcome = { failure: stoppedByOthers, seconds: null };
