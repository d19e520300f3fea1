import { temporalNames, type FiredTrigger } from "@drydock/spec";
import type { Database } from "../store/database.ts";
import { PipelineStore, type PipelineRow, type PipelineRunRow } from "../store/pipeline-store.ts";
import { enqueue } from "../workflows/outbox.ts";

const dayMs = 86_400_000;

/** What starts a run. The same key starts one, however often it is fired. */
export interface Firing {
  readonly key: string;
  readonly trigger: FiredTrigger;
  readonly actor: string;
  readonly now: Date;
}

/**
 * Starts a run of a pipeline, or writes down why not, in the caller's transaction. Takes the pipeline's lock, so that two triggers at
 * a time keep to the overlap rule and the budget.
 *
 * @throws NotFoundError `pipeline_not_found`
 */
export async function firePipelineTrigger(tx: Database, name: string, firing: Firing): Promise<PipelineRunRow> {
  const store = new PipelineStore(tx);
  const pipeline = await store.lock(name);
  const known = await store.findRunByTrigger(pipeline.id, firing.key);
  if (known) return known;
  const { state, message } = await placeOf(store, pipeline, firing);
  const { key: triggerKey, trigger, actor } = firing;
  const run = await store.insertRun(pipeline, { state, message, triggerKey, trigger });
  await store.append(run.id, {
    key: "triggered",
    actor,
    step: null,
    type: "triggered",
    message: `${trigger.detail}${state === "running" ? "" : `; ${message}`}`,
  });
  if (state === "running") await startWorkflow(tx, run.id);
  return run;
}

async function placeOf(
  store: PipelineStore,
  pipeline: PipelineRow,
  { actor, now }: Firing,
): Promise<{ readonly state: "running" | "queued" | "skipped"; readonly message: string }> {
  const { overlap, budget, maxConcurrent } = pipeline.spec;
  if (budget.runsPerDay !== undefined) {
    const runs = await store.runsSince(pipeline.id, new Date(now.getTime() - dayMs));
    if (runs >= budget.runsPerDay)
      return {
        state: "skipped",
        message: `left out: ${runs} runs in the last 24 hours are the budget of ${budget.runsPerDay}`,
      };
  }
  const open = await store.openRuns(pipeline.id);
  const [first] = open;
  // Who waits already goes first.
  if (!first || (open.length < maxConcurrent && open.every(({ state }) => state !== "queued")))
    return { state: "running", message: "started" };
  if (overlap === "skip")
    return {
      state: "skipped",
      message: `left out: ${runsText(open, "is", "are")} still open`,
    };
  if (overlap === "cancel-running")
    for (const run of open) await requestCancel(store, run.id, actor, "a newer run takes its place");
  return { state: "queued", message: `waits until ${runsText(open, "has", "have")} ended` };
}

/** `run 3 is`, `runs 3, 4 are`. */
function runsText(open: readonly PipelineRunRow[], verb: string, verbOfMany: string): string {
  const numbers = open.map(({ number }) => number).join(", ");
  return open.length === 1 ? `run ${numbers} ${verb}` : `runs ${numbers} ${verbOfMany}`;
}

/** Asks a run to end; its step's run, sweep or evaluation is ended by its workflow. A queued one ends at once. */
export async function requestCancel(store: PipelineStore, runId: string, actor: string, why: string): Promise<boolean> {
  const run = await store.lockRun(runId);
  if (run.state !== "queued" && run.state !== "running") return false;
  const isQueued = run.state === "queued";
  await store.append(run.id, { key: "cancel-requested", actor, step: null, type: "cancel-requested", message: why });
  if (isQueued)
    await store.append(run.id, { key: "ended", actor, step: null, type: "ended", message: `cancelled: ${why}` });
  await store.changeRun(run, { state: isQueued ? "cancelled" : "cancelling", message: why });
  return true;
}

/** Starts the oldest runs that wait, as many as may be open. Called when a run ends. */
export async function startNext(tx: Database, name: string): Promise<void> {
  const store = new PipelineStore(tx);
  const pipeline = await store.lock(name);
  const open = await store.openRuns(pipeline.id);
  const waiting = open.filter(({ state }) => state === "queued");
  let free = pipeline.spec.maxConcurrent - (open.length - waiting.length);
  for (const { id } of waiting) {
    if (free <= 0) return;
    const next = await store.lockRun(id);
    // A person may have cancelled it since it was read.
    if (next.state !== "queued") continue;
    await store.changeRun(next, { state: "running", message: "started" });
    await startWorkflow(tx, id);
    free--;
  }
}

async function startWorkflow(tx: Database, pipelineRunId: string): Promise<void> {
  await enqueue(tx, {
    kind: "start",
    workflowId: pipelineRunId,
    name: temporalNames.pipeline,
    input: { pipelineRunId },
  });
}
