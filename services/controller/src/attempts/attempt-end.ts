import { exitCodes } from "@drydock/kit";
import { RunReason } from "@drydock/spec";
import type { AttemptOutcome } from "@drydock/workflows";
import type { GangEnd, RankEnd } from "../backend/cluster-backend.ts";
import type { ReportedOutcome } from "./attempt-registry.ts";

/** How an attempt ended, in the words of the contract. */
export type AttemptEnd = Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> & {
  readonly exitCode: number | null;
};

/**
 * The worker's own word first, then what the back end saw, then the exit code (design §6 and §7). Of several ranks the one
 * that is the cause counts; ranks that ended because they lost it do not. Pure.
 *
 * @param outcomes  what each rank said at its end, null for one that said nothing
 */
export function classifyEnd(
  end: GangEnd,
  outcomes: readonly (ReportedOutcome | null)[],
  hungBecause: string | null,
): AttemptEnd {
  const cause = causeOf(end, outcomes);
  const reported = outcomes[cause.rank] ?? null;
  const seen = reported ? fromReport(reported) : fromOutside(cause, outcomes, hungBecause);
  const isOneOfSeveral = outcomes.length > 1 && seen.kind === "failed" && !/^(rank \d|the ranks )/.test(seen.message);
  const message = isOneOfSeveral ? `rank ${cause.rank}: ${seen.message}` : seen.message;
  // Who made it stop is known to the cluster alone.
  const isTold = cause.message !== null && seen.kind === "stopped" && cause.reason === "preempted";
  return {
    ...seen,
    message: isTold ? `${message}; ${cause.message}` : message,
    exitCode: reported?.exitCode ?? cause.exitCode,
  };
}

/** The back end knows the order of the ends; what ranks said tells which of them only lost a peer. */
function causeOf({ cause, ranks }: GangEnd, outcomes: readonly (ReportedOutcome | null)[]): RankEnd {
  if (!hasLostPeer(outcomes[cause.rank])) return cause;
  return ranks.find(({ rank }) => isOwnFailure(outcomes[rank])) ?? cause;
}

/** The rank gave up because another one was gone. */
function hasLostPeer(outcome: ReportedOutcome | null | undefined): boolean {
  return outcome?.exitCode === exitCodes.retry && outcome.reason === "worker-lost";
}

function isOwnFailure(outcome: ReportedOutcome | null | undefined): boolean {
  return outcome !== null && outcome !== undefined && outcome.exitCode !== exitCodes.done && !hasLostPeer(outcome);
}

/** The class of a rank that said nothing at its end. */
function fromOutside(cause: RankEnd, outcomes: readonly (ReportedOutcome | null)[], hungBecause: string | null): Class {
  if (hungBecause !== null)
    return failed("hung", `the ${outcomes.length > 1 ? "ranks were" : "worker was"} ended because ${hungBecause}`);
  return fromCluster(cause) ?? fromPeers(cause, outcomes) ?? fromExitCode(cause);
}

/** Peers notice a rank that stands still before anyone else does. */
function fromPeers({ rank }: RankEnd, outcomes: readonly (ReportedOutcome | null)[]): Class | null {
  const notice = outcomes.find((outcome) => outcome?.message.startsWith(`rank ${rank} was lost: it said nothing`));
  return notice ? failed("hung", notice.message) : null;
}

type Class = Omit<AttemptEnd, "exitCode">;

function fromReport({ exitCode, reason, message, modelKey }: ReportedOutcome): Class {
  const known = RunReason.safeParse(reason);
  if (exitCode === exitCodes.done) return { kind: "succeeded", reason: "completed", message, modelKey };
  if (exitCode === exitCodes.interrupted || exitCode === exitCodes.terminated)
    return { kind: "stopped", reason: known.success ? known.data : "preempted", message, modelKey: "" };
  return failed(known.success ? known.data : "internal-error", message);
}

/** Null when the exit code says more than the cluster. */
function fromCluster({ reason, message, node, exitCode }: RankEnd): Class | null {
  const where = node === null ? "" : ` on node ${node}`;
  const because = message === null ? "" : `: ${message}`;
  switch (reason) {
    case "out-of-memory":
      return failed("out-of-memory", "the worker went over its memory limit and was ended");
    case "image-unavailable":
      return failed(
        "image-pull",
        `the worker's image cannot be had${because}; check the image's name and the right to pull it`,
      );
    case "bad-pod":
      return failed("bad-config", `the worker's pod cannot be started${because}`);
    case "disk-full":
      return failed(
        "bad-config",
        `the worker used more disk than its pod may${because}; give it more ephemeral storage`,
      );
    case "deadline":
      return failed("deadline-exceeded", `the worker's pod ran longer than the cluster allows${because}`);
    case "preempted":
    case "drained":
      // A worker that wrote its checkpoint says so by its exit code.
      if (exitCode === exitCodes.terminated || exitCode === exitCodes.interrupted) return null;
      return failed(
        "preempted",
        `the worker was ${reason === "drained" ? "moved away from its node" : "preempted"}${where}${because}`,
      );
    case "node-lost":
    case "refused-by-node":
      return failed("node-lost", `the worker lost its node${where}${because}`);
    case "exited":
    case "vanished":
      return null;
  }
}

function fromExitCode({ exitCode, signal }: RankEnd): Class {
  switch (exitCode) {
    case exitCodes.badConfig:
      return failed("bad-config", "the worker refused its config; its log says which field");
    case exitCodes.badData:
      return failed("bad-data", "the worker refused the data; its log says which row");
    case exitCodes.outOfMemory:
      return failed("out-of-memory", "the worker ran out of memory");
    case exitCodes.retry:
      return failed("storage-unavailable", "the worker gave up waiting for storage");
    case exitCodes.hardware:
      return failed("hardware", "the worker saw a hardware fault");
    case exitCodes.interrupted:
    case exitCodes.terminated:
      return {
        kind: "stopped",
        reason: "preempted",
        message: "the worker was stopped from outside after a checkpoint",
        modelKey: "",
      };
    case null:
      return failed("worker-lost", signal ? `the worker was ended by ${signal}` : "the worker is gone");
    default:
      return failed("internal-error", `the worker ended with exit code ${exitCode} without saying why; see its log`);
  }
}

function failed(reason: RunReason, message: string): Class {
  return { kind: "failed", reason, message, modelKey: "" };
}
