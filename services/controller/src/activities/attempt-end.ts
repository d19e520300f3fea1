import { exitCodes } from "@drydock/kit";
import { RunReason } from "@drydock/spec";
import type { PodEnd } from "../backend/cluster-backend.ts";
import type { ReportedOutcome } from "../attempts/attempt-registry.ts";
import type { AttemptOutcome } from "@drydock/workflows";

/** How an attempt ended: the worker's own word first, then its exit code, then what the back end saw. */
export function classifyEnd(end: PodEnd, reported: ReportedOutcome | null, wasHung: boolean): Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> {
  if (wasHung) return failed("hung", "the worker said nothing for too long and was ended");
  if (end.reason === "out-of-memory") return failed("out-of-memory", "the worker went over its memory limit and was ended");
  if (reported) return fromReport(reported);
  const { exitCode, signal } = end;
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
      return { kind: "stopped", reason: "preempted", message: "the worker was stopped from outside after a checkpoint", modelKey: "" };
    case null:
      return failed("worker-lost", signal ? `the worker was ended by ${signal}` : "the worker is gone");
    default:
      return failed("internal-error", `the worker ended with exit code ${exitCode} and no explanation; see its log`);
  }
}

function fromReport({ exitCode, reason, message, modelKey }: ReportedOutcome): Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> {
  const known = RunReason.safeParse(reason);
  if (exitCode === exitCodes.done) return { kind: "succeeded", reason: "completed", message, modelKey };
  if (exitCode === exitCodes.interrupted || exitCode === exitCodes.terminated) return { kind: "stopped", reason: known.success ? known.data : "preempted", message, modelKey: "" };
  return failed(known.success ? known.data : "internal-error", message);
}

function failed(reason: AttemptOutcome["reason"], message: string): Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> {
  return { kind: "failed", reason, message, modelKey: "" };
}
