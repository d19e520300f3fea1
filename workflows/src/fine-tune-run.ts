import {
  ActivityCancellationType,
  ActivityFailure,
  CancellationScope,
  condition,
  defineSignal,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  TimeoutFailure,
} from "@temporalio/workflow";
import type { RunReason, RunState } from "@drydock/spec";
import type { AttemptInput, AttemptOutcome, RunActivities } from "./activities.ts";
import { decide, initialProgress, type Decision, type Request } from "./fine-tune-run.state.ts";

// One long heartbeating activity watches an attempt; it is retried for ever because starting it again adopts the worker.
const { runAttempt } = proxyActivities<RunActivities>({
  startToCloseTimeout: "365 days",
  heartbeatTimeout: "15 seconds",
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { initialInterval: "1 second", maximumInterval: "15 seconds" },
});
// Short calls to the api: local, so that a run costs few server transitions; they wait out an api that is away.
const { loadRun, transitionRun, requeue } = proxyLocalActivities<RunActivities>({
  startToCloseTimeout: "30 seconds",
  localRetryThreshold: "1 minute",
  retry: { initialInterval: "500 milliseconds", maximumInterval: "10 seconds" },
});
const { publishRun } = proxyActivities<RunActivities>({
  startToCloseTimeout: "10 minutes",
  retry: { initialInterval: "1 second", maximumInterval: "15 seconds" },
});

export const pauseSignal = defineSignal("pause");
export const resumeSignal = defineSignal("resume");
/** The run has another plan: the attempt that runs is stopped after a checkpoint, the next one follows it. */
export const resizeSignal = defineSignal("resize");
export const cancelSignal = defineSignal("cancel");

/** What the signals of the user and the deadline act on. */
interface RunControl {
  request: Request;
  pauses: number;
  /** The run was planned again since its facts were loaded. */
  isResized: boolean;
  /** Milliseconds since the epoch; moved on by pauses. */
  deadlineAtMs: number;
  /** The running attempt, to be cancelled; null between attempts. */
  scope: CancellationScope | null;
}

/** One fine-tuning run from submit to published model. The workflow id is the run id. */
export async function fineTuneRun({ runId }: { readonly runId: string }): Promise<void> {
  const control: RunControl = {
    request: "none",
    pauses: 0,
    isResized: false,
    deadlineAtMs: Number.POSITIVE_INFINITY,
    scope: null,
  };
  setHandler(pauseSignal, () => ask(control, "pause"));
  setHandler(resizeSignal, () => {
    control.isResized = true;
    if (control.request === "none") ask(control, "resize");
  });
  setHandler(cancelSignal, () => ask(control, "cancel"));
  setHandler(resumeSignal, () => {
    if (control.request === "pause") control.request = "none";
  });
  try {
    await carryOut(runId, control);
  } catch (error) {
    // Only what no retry can mend gets here; the person who submitted the run must not find it running for ever.
    if (!(error instanceof ActivityFailure)) throw error;
    await transition(runId, "broken", "failed", "internal-error", `the run cannot go on: ${rootMessage(error)}`);
  }
}

async function carryOut(runId: string, control: RunControl): Promise<void> {
  let facts = await loadRun({ runId });
  if (facts.isRefused) return await transition(runId, "refused", "failed", "plan-refused", facts.refusal);
  await transition(
    runId,
    "queued",
    "queued",
    "data-checked",
    "the data is checked and the plan stands; waiting for a worker",
  );
  control.deadlineAtMs = Date.now() + facts.deadlineSeconds * 1000;

  let progress = initialProgress;
  let afterEpoch = 0;
  for (;;) {
    if (control.request === "pause") await stayPaused(runId, control);
    if (control.request === "cancel")
      return await transition(runId, "cancelled", "cancelled", "cancel-requested", "cancelled; checkpoints are kept");
    if (control.isResized) {
      control.isResized = false;
      if (control.request === "resize") control.request = "none";
      facts = await loadRun({ runId });
      progress = { ...progress, layout: 0 };
    }
    const outcome = await attempt({ runId, afterEpoch, layout: progress.layout }, control);
    afterEpoch = outcome.epoch ?? afterEpoch;
    const decision = decide(outcome, control.request, progress, facts);
    log.info("attempt ended", { outcome: outcome.kind, reason: outcome.reason, decision: decision.kind });
    if (decision.kind === "retry") progress = decision.progress;
    if (!(await goesOn(runId, decision, outcome, control))) return;
  }
}

/** Carries a decision out; false when the run has ended. */
async function goesOn(
  runId: string,
  decision: Decision,
  outcome: AttemptOutcome,
  control: RunControl,
): Promise<boolean> {
  const { epoch } = outcome;
  switch (decision.kind) {
    case "publish":
      await publishRun({ runId, epoch: epoch ?? 1, modelKey: outcome.modelKey });
      return false;
    case "cancel":
      await transition(
        runId,
        "cancelled",
        "cancelled",
        "cancel-requested",
        `cancelled after step ${outcome.lastStep}; checkpoints are kept`,
        epoch,
      );
      return false;
    case "fail":
      await transition(runId, "failed", "failed", decision.reason, decision.message, epoch);
      return false;
    case "pause":
      await stayPaused(runId, control, outcome);
      return true;
    case "retry":
      await requeue({ runId, reason: decision.reason, message: decision.remedy, attempt: epoch });
      if (decision.delayMs > 0) await condition(() => control.request !== "none", decision.delayMs);
      return true;
  }
}

async function attempt(input: AttemptInput, control: RunControl): Promise<AttemptOutcome> {
  const scope = new CancellationScope();
  const deadline = new CancellationScope();
  control.scope = scope;
  const watch = deadline.run(async () => {
    await sleep(Math.max(1, control.deadlineAtMs - Date.now()));
    ask(control, "deadline");
  });
  try {
    return await scope.run(async () => await runAttempt(input));
  } catch (error) {
    // Cancelled before the activity was picked up, between two tries of it, or while its controller was dead: then Temporal
    // tries it no more, but a worker may run all the same. It is found and stopped before anything else happens.
    if (!isCancellation(error) && !(control.request !== "none" && isTimeout(error))) throw error;
    return await CancellationScope.nonCancellable(async () => await runAttempt({ ...input, isStopping: true }));
  } finally {
    control.scope = null;
    deadline.cancel();
    await watch.catch((error: unknown) => {
      if (!isCancellation(error)) throw error;
    });
  }
}

/** Stays paused until the user resumes or cancels. */
async function stayPaused(runId: string, control: RunControl, outcome?: AttemptOutcome): Promise<void> {
  control.pauses += 1;
  const pausedAtMs = Date.now();
  const where = outcome?.epoch
    ? `paused after step ${outcome.lastStep}, which is saved`
    : "paused before a worker was started";
  await transition(
    runId,
    `paused-${control.pauses}`,
    "paused",
    "paused-after-checkpoint",
    `${where}; resume when you like`,
    outcome?.epoch ?? null,
  );
  await condition(() => control.request !== "pause");
  control.deadlineAtMs += Date.now() - pausedAtMs;
  if (control.request === "none")
    await transition(runId, `resumed-${control.pauses}`, "queued", "resume-requested", "resumed; waiting for a worker");
}

/** Notes what is asked for and stops a running attempt after its checkpoint. A cancel overrides a pause, nothing a cancel. */
function ask(control: RunControl, request: Exclude<Request, "none">): void {
  if (control.request === "cancel") return;
  control.request = request;
  control.scope?.cancel();
}

function isTimeout(error: unknown): boolean {
  return error instanceof ActivityFailure && error.cause instanceof TimeoutFailure;
}

function rootMessage(error: Error): string {
  return error.cause instanceof Error ? rootMessage(error.cause) : error.message;
}

async function transition(
  runId: string,
  key: string,
  to: RunState,
  reason: RunReason,
  message: string,
  attempt: number | null = null,
): Promise<void> {
  await transitionRun({ runId, key, to, reason, message, attempt });
}
