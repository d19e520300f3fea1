import { formatSeconds, type PipelineStep } from "@drydock/spec";
import type { PipelineRunRow } from "../../store/pipeline-store.ts";
import type { StepOutcome } from "../step-outcome.ts";

/** Waits for a person, or for the time that is allowed. */
export function approve(
  { results }: PipelineRunRow,
  { timeoutSeconds, onTimeout }: Extract<PipelineStep, { type: "approve" }>,
  now: Date = new Date(),
): StepOutcome {
  const { approval, candidate } = results;
  if (approval) {
    const comment = approval.comment === "" ? "" : `: ${approval.comment}`;
    return approval.decision === "approved"
      ? { kind: "done", message: `${approval.actor} approved ${candidate}${comment}` }
      : { kind: "end", state: "refused", message: `${approval.actor} refused ${candidate}${comment}` };
  }
  const waitedMs = now.getTime() - Date.parse(results.startedAt["approve"] ?? "");
  if (waitedMs < timeoutSeconds * 1000) return { kind: "wait" };
  const message = `nobody decided about ${candidate} within ${formatSeconds(timeoutSeconds)}`;
  return onTimeout === "promote"
    ? { kind: "done", message: `${message}: it is promoted, as the pipeline says` }
    : { kind: "end", state: "refused", message: `${message}: it is refused, as the pipeline says` };
}
