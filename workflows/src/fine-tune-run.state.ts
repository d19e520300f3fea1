import type { RunReason } from "@drydock/spec";
import type { AttemptOutcome, LayoutFacts, RunFacts } from "./activities.ts";

/** What happened to a run so far, as far as the next decision depends on it. */
export interface Progress {
  /** Which of the plan's layouts is used: one further after each out-of-memory. */
  readonly layout: number;
  /** Failures that count against `retries` of the run spec. */
  readonly failures: number;
  /** Losses of a worker in a row without a step beyond the last loss: not the run's fault, so they have a budget of their own. */
  readonly losses: number;
  /** Last step of the attempt that was lost last. */
  readonly lossStep: number;
  readonly storageFailures: number;
}

/** What to do after an attempt. */
export type Decision =
  | { readonly kind: "publish" }
  | { readonly kind: "pause" }
  | { readonly kind: "cancel" }
  | { readonly kind: "fail"; readonly reason: RunReason; readonly message: string }
  | {
      readonly kind: "retry";
      readonly progress: Progress;
      readonly delayMs: number;
      readonly reason: RunReason;
      readonly remedy: string;
    };

export const maxLosses = 10;
export const maxStorageFailures = 10;

export const initialProgress: Progress = { layout: 0, failures: 0, losses: 0, lossStep: 0, storageFailures: 0 };

/** What the user asked for while the attempt ran. */
export type Request = "none" | "pause" | "resize" | "cancel" | "deadline";

/** Failure class → remedy: the table of the design, as a function. */
export function decide(
  outcome: AttemptOutcome,
  request: Request,
  progress: Progress,
  facts: Pick<RunFacts, "retries" | "deadlineSeconds" | "layouts">,
): Decision {
  // Who was told that the run is cancelled must not find its model: also when the worker did not hear of it in time.
  if (request === "cancel") return { kind: "cancel" };
  if (outcome.kind === "succeeded") return { kind: "publish" };
  if (request === "deadline")
    return {
      kind: "fail",
      reason: "deadline-exceeded",
      message: `the run did not end within its deadline of ${facts.deadlineSeconds} s; its checkpoints are kept: submit it again with a longer deadlineSeconds`,
    };
  if (outcome.kind === "stopped") {
    if (request === "pause") return { kind: "pause" };
    return request === "resize" ? resized(outcome, progress) : lost(outcome, progress);
  }
  // The new layout that was asked for is tried before the old plan is given up.
  if (request === "resize" && outcome.reason === "out-of-memory")
    return {
      kind: "retry",
      progress,
      delayMs: 0,
      reason: "resize-requested",
      remedy: `memory ran out while a resize was asked for: going on from the last checkpoint with the new layout (${outcome.message})`,
    };
  return remedyOf(outcome, progress, facts);
}

/** Stopped for another layout: go on with it at once. */
function resized(outcome: AttemptOutcome, progress: Progress): Decision {
  return {
    kind: "retry",
    progress,
    delayMs: 0,
    reason: "resize-requested",
    remedy: `stopped after step ${outcome.lastStep} to be resized; going on from its checkpoint with the new layout, global batch and data order kept`,
  };
}

function remedyOf(outcome: AttemptOutcome, progress: Progress, facts: Pick<RunFacts, "retries" | "layouts">): Decision {
  switch (outcome.reason) {
    case "out-of-memory":
      return fallBack(outcome, progress, facts);
    case "worker-lost":
    case "node-lost":
    case "preempted":
      return lost(outcome, progress);
    case "storage-unavailable":
      return waitForStorage(outcome, progress);
    case "bad-data":
    case "bad-config":
    case "image-pull":
    case "diverged":
    case "plan-refused":
      return { kind: "fail", reason: outcome.reason, message: outcome.message };
    default:
      return retry(outcome, progress, facts);
  }
}

/** Out of memory: the plan's next layout, which needs less; the global batch and so the result stay. */
function fallBack(outcome: AttemptOutcome, progress: Progress, { layouts }: Pick<RunFacts, "layouts">): Decision {
  const [used, next] = layouts.slice(progress.layout);
  if (!next || !used)
    return {
      kind: "fail",
      reason: "out-of-memory",
      message: `memory ran out ${progress.layout + 1} times, last with ${describe(used)}; lower image.maxPixels, use a smaller model, or give the worker more memory (${outcome.message})`,
    };
  return {
    kind: "retry",
    progress: { ...progress, layout: progress.layout + 1 },
    delayMs: 0,
    reason: "out-of-memory",
    remedy: `memory ran out: ${changes(used, next).join(", ")}, global batch kept`,
  };
}

function describe(layout: LayoutFacts | undefined): string {
  if (!layout) return "no layout";
  const again = layout.recomputeActivations ? ", activations computed again" : "";
  const stages = layout.pipelineStages > 1 ? `, ${layout.pipelineStages} pipeline stages` : "";
  return `${layout.microBatchSize} rows a micro-batch${again}${stages}`;
}

function changes(used: LayoutFacts, next: LayoutFacts): string[] {
  return [
    ...(next.microBatchSize === used.microBatchSize
      ? []
      : [`micro-batch ${used.microBatchSize} → ${next.microBatchSize}`]),
    ...(next.accumulationSteps === used.accumulationSteps
      ? []
      : [`accumulation ${used.accumulationSteps} → ${next.accumulationSteps}`]),
    ...(next.recomputeActivations && !used.recomputeActivations
      ? ["activations are computed again for the backward pass instead of kept"]
      : []),
    ...(next.pipelineStages === used.pipelineStages
      ? []
      : [`pipeline stages ${used.pipelineStages} → ${next.pipelineStages} on the same GPUs`]),
  ];
}

/** The worker went away: go on from the last checkpoint, without touching the retry budget. Bounded while no step is gained. */
function lost(outcome: AttemptOutcome, progress: Progress): Decision {
  const losses = outcome.lastStep > progress.lossStep ? 1 : progress.losses + 1;
  if (losses > maxLosses)
    return {
      kind: "fail",
      reason: "retries-exhausted",
      message: `the worker was lost ${losses} times without getting past step ${progress.lossStep}; the last time: ${outcome.message}`,
    };
  return {
    kind: "retry",
    progress: { ...progress, losses, lossStep: Math.max(progress.lossStep, outcome.lastStep) },
    delayMs: losses === 1 ? 0 : Math.min(30_000, 250 * 2 ** losses),
    reason: outcome.kind === "stopped" ? "preempted" : outcome.reason,
    remedy: `${outcome.message}; going on from the last checkpoint (does not use the retry budget)`,
  };
}

function waitForStorage(outcome: AttemptOutcome, progress: Progress): Decision {
  if (progress.storageFailures >= maxStorageFailures)
    return { kind: "fail", reason: "storage-unavailable", message: `storage stayed away: ${outcome.message}` };
  const delayMs = Math.min(300_000, 5_000 * 2 ** progress.storageFailures);
  return {
    kind: "retry",
    progress: { ...progress, storageFailures: progress.storageFailures + 1 },
    delayMs,
    reason: "storage-unavailable",
    remedy: `${outcome.message}; trying again in ${delayMs / 1000} s from the last good checkpoint`,
  };
}

function retry(outcome: AttemptOutcome, progress: Progress, facts: Pick<RunFacts, "retries">): Decision {
  if (progress.failures >= facts.retries)
    return {
      kind: "fail",
      reason: facts.retries === 0 ? outcome.reason : "retries-exhausted",
      message: `${outcome.message} (after ${progress.failures} retries)`,
    };
  return {
    kind: "retry",
    progress: { ...progress, failures: progress.failures + 1 },
    delayMs: Math.min(60_000, 1_000 * 2 ** progress.failures),
    reason: outcome.reason,
    remedy: `${outcome.message}; retry ${progress.failures + 1} of ${facts.retries}, from the last checkpoint`,
  };
}
