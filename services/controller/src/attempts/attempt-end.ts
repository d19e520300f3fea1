import { exitCodes } from "@drydock/kit";
import { RunReason } from "@drydock/spec";
import type { AttemptOutcome } from "@drydock/workflows";
import type { GangEnd, RankEnd } from "../backend/cluster-backend.ts";
import type { ReportedOutcome } from "./attempt-registry.ts";

/** How an attempt ended, in the words of the contract. */
export type AttemptEnd = Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> & {
  readonly exitCode: number | null;
};

/** The worker's own word first, then what the back end saw, then the exit code (design §6 and §7). Pure. */
export function classifyEnd(
  { cause, ranks }: GangEnd,
  reported: ReportedOutcome | null,
  hungBecause: string | null,
): AttemptEnd {
  const exitCode = reported?.exitCode ?? cause.exitCode;
  if (reported) return { ...fromReport(reported), exitCode };
  if (hungBecause !== null) return { ...failed("hung", `the worker was ended because ${hungBecause}`), exitCode };
  const seen = fromCluster(cause) ?? fromExitCode(cause);
  return { ...(ranks.length > 1 ? { ...seen, message: `rank ${cause.rank}: ${seen.message}` } : seen), exitCode };
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
