import { exitCodes } from "@drydock/kit";
import { RunReason } from "@drydock/spec";
import type { AttemptOutcome } from "@drydock/workflows";
import type { PodEnd } from "../backend/cluster-backend.ts";
import type { ReportedOutcome } from "./attempt-registry.ts";

/** How an attempt ended, in the words of the contract. */
export type AttemptEnd = Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey"> & {
  readonly exitCode: number | null;
};

/** The worker's own word first, then what the back end saw, then the exit code (design §6 and §7). Pure. */
export function classifyEnd(end: PodEnd, reported: ReportedOutcome | null, hungBecause: string | null): AttemptEnd {
  const exitCode = reported?.exitCode ?? end.exitCode;
  if (reported) return { ...fromReport(reported), exitCode };
  if (hungBecause !== null) return { ...failed("hung", `the worker was ended because ${hungBecause}`), exitCode };
  if (end.reason === "out-of-memory")
    return { ...failed("out-of-memory", "the worker went over its memory limit and was ended"), exitCode };
  return { ...fromExitCode(end), exitCode };
}

type Class = Omit<AttemptEnd, "exitCode">;

function fromReport({ exitCode, reason, message, modelKey }: ReportedOutcome): Class {
  const known = RunReason.safeParse(reason);
  if (exitCode === exitCodes.done) return { kind: "succeeded", reason: "completed", message, modelKey };
  if (exitCode === exitCodes.interrupted || exitCode === exitCodes.terminated)
    return { kind: "stopped", reason: known.success ? known.data : "preempted", message, modelKey: "" };
  return failed(known.success ? known.data : "internal-error", message);
}

function fromExitCode({ exitCode, signal }: PodEnd): Class {
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
