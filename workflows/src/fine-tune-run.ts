import {
  ActivityCancellationType,
  CancellationScope,
  condition,
  defineSignal,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
} from "@temporalio/workflow";
import type { AttemptOutcome, RunActivities, RunFacts } from "./activities.ts";
import { decide, initialProgress, type Decision, type Progress, type Request } from "./fine-tune-run.state.ts";

// One long heartbeating activity watches an attempt; it is retried for ever because starting it again adopts the worker.
const { runAttempt } = proxyActivities<RunActivities>({
  startToCloseTimeout: "365 days",
  heartbeatTimeout: "15 seconds",
  cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  retry: { initialInterval: "1 second", maximumInterval: "15 seconds" },
});
// Short calls to the api: local, so that a run costs few server transitions; they wait out an api that is away.
const { loadRun, transitionRun, recordRemedy } = proxyLocalActivities<RunActivities>({
  startToCloseTimeout: "30 seconds",
  localRetryThreshold: "1 minute",
  retry: { initialInterval: "500 milliseconds", maximumInterval: "10 seconds" },
});
const { publishRun } = proxyActivities<RunActivities>({ startToCloseTimeout: "10 minutes", retry: { initialInterval: "1 second", maximumInterval: "15 seconds" } });

export const pauseSignal = defineSignal("pause");
export const resumeSignal = defineSignal("resume");
export const cancelSignal = defineSignal("cancel");

interface RunControl {
  request: Request;
  attempts: number;
  pauses: number;
  scope: CancellationScope | null;
}

/** One fine-tuning run from submit to published model. The workflow id is the run id. */
export async function fineTuneRun({ runId }: { readonly runId: string }): Promise<void> {
  const control: RunControl = { request: "none", attempts: 0, pauses: 0, scope: null };
  setHandler(pauseSignal, () => ask(control, "pause"));
  setHandler(cancelSignal, () => ask(control, "cancel"));
  setHandler(resumeSignal, () => {
    if (control.request === "pause") control.request = "none";
  });

  const facts = await loadRun({ runId });
  if (facts.isRefused) return await transition(runId, "refused", "failed", "plan-refused", facts.refusal);
  await transition(runId, "queued", "queued", "data-checked", "the data is checked and the plan stands; waiting for a worker");

  let progress = initialProgress(facts);
  for (;;) {
    if (control.request === "pause") await stayPaused(runId, control);
    if (control.request === "cancel") return await transition(runId, "cancelled", "cancelled", "cancel-requested", "cancelled; checkpoints are kept");
    const outcome = await attempt(runId, progress, control, facts);
    const decision = decide(outcome, control.request, progress, facts);
    log.info("attempt ended", { outcome: outcome.kind, reason: outcome.reason, decision: decision.kind });
    if (decision.kind === "retry") progress = decision.progress;
    if (!(await goesOn(runId, decision, outcome, control))) return;
  }
}

/** Carries a decision out; false when the run has ended. */
async function goesOn(runId: string, decision: Decision, outcome: AttemptOutcome, control: RunControl): Promise<boolean> {
  switch (decision.kind) {
    case "publish":
      await publishRun({ runId, epoch: outcome.epoch, modelKey: outcome.modelKey });
      return false;
    case "cancel":
      await transition(runId, "cancelled", "cancelled", "cancel-requested", `cancelled after step ${outcome.lastStep}; checkpoints are kept`, outcome.epoch);
      return false;
    case "fail":
      await transition(runId, "failed", "failed", decision.reason, decision.message, outcome.epoch);
      return false;
    case "pause":
      await stayPaused(runId, control, outcome);
      return true;
    case "retry":
      await recordRemedy({ runId, key: `remedy-${outcome.epoch}`, reason: decision.reason, message: decision.remedy, attempt: outcome.epoch });
      await transition(runId, `requeued-${outcome.epoch}`, "queued", decision.reason, decision.remedy, outcome.epoch);
      if (decision.delayMs > 0) await condition(() => control.request !== "none", decision.delayMs);
      return true;
  }
}

async function attempt(runId: string, progress: Progress, control: RunControl, facts: RunFacts): Promise<AttemptOutcome> {
  control.attempts += 1;
  control.scope = new CancellationScope();
  const deadline = new CancellationScope();
  const watch = deadline.run(async () => {
    await sleep(facts.deadlineSeconds * 1000);
    ask(control, "deadline");
  });
  try {
    return await control.scope.run(async () => await runAttempt({ runId, microBatchSize: progress.microBatchSize }));
  } catch (error) {
    // Cancelled before the activity was ever picked up: nothing ran.
    if (!isCancellation(error)) throw error;
    return { kind: "stopped", epoch: control.attempts, reason: "preempted", message: "stopped before a worker was started", lastStep: 0, modelKey: "" };
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
  const where = outcome ? `paused after step ${outcome.lastStep}, which is saved` : "paused before a worker was started";
  await transition(runId, `paused-${control.pauses}`, "paused", "paused-after-checkpoint", `${where}; resume when you like`, outcome?.epoch ?? null);
  await condition(() => control.request !== "pause");
  if (control.request === "none") await transition(runId, `resumed-${control.pauses}`, "queued", "resume-requested", "resumed; waiting for a worker");
}

/** Notes what the user asked for and stops a running attempt after its checkpoint. A cancel overrides a pause. */
function ask(control: RunControl, request: Exclude<Request, "none">): void {
  if (control.request === "cancel") return;
  control.request = request;
  control.scope?.cancel();
}

async function transition(runId: string, key: string, to: "queued" | "paused" | "failed" | "cancelled", reason: Parameters<RunActivities["transitionRun"]>[0]["reason"], message: string, epoch: number | null = null): Promise<void> {
  await transitionRun({ runId, key, to, reason, message, attempt: epoch });
}
