import { ConflictError, isDrydockError, messageOf } from "@drydock/kit";
import {
  openPipelineRunStates,
  type PipelineAdvance,
  type PipelineResults,
  type PipelineStep,
  type PromotionResult,
} from "@drydock/spec";
import { promoteModel, type Promotion } from "../registry/promote-model.ts";
import { rollBack, type Rollback } from "../registry/roll-back.ts";
import type { Services } from "../services.ts";
import type { Database } from "../store/database.ts";
import { PipelineStore, timelineKey, type PipelineRunRow } from "../store/pipeline-store.ts";
import { emitEvent } from "../store/emit-event.ts";
import { startNext } from "./fire-trigger.ts";
import { startPipelinesAfter } from "./triggers.ts";
import { cancelWork } from "./cancel-work.ts";
import type { StepOutcome } from "./step-outcome.ts";
import { productionOf } from "./steps/evaluate.ts";
import { candidateOf } from "./steps/promote.ts";
import { steps } from "./steps/steps.ts";

/** Looks at the step that a run is at and does the next thing about it. Whoever calls it, and however often: each thing is done once. */
export async function advancePipelineRun(services: Services, id: string): Promise<PipelineAdvance> {
  const run = await services.pipelines.getRun(id);
  if (run.state === "queued") return { kind: "wait" };
  if (!openPipelineRunStates.includes(run.state)) return await over(services, run);
  if (run.state === "cancelling") return await cancelRun(services, run);
  const step = stepOf(run);
  if (!step) return await endRun(services, run, "succeeded", await messageOfSuccess(services, run.results));
  if (run.results.startedAt[step.type] === undefined) return await beginStep(services, run, step);
  return await carryOut(services, run, step, await lookAt(services, run, step));
}

async function carryOut(
  services: Services,
  run: PipelineRunRow,
  step: PipelineStep,
  outcome: StepOutcome,
): Promise<PipelineAdvance> {
  switch (outcome.kind) {
    case "wait":
    case "promote":
      return outcome;
    case "end":
      return await endRun(services, run, outcome.state, outcome.message, outcome.results);
    case "roll-back":
      return await endWithRollback(services, run, outcome.rollback);
    case "start":
      await change(services, run, async (store, row, tx) => {
        await store.changeRun(row, { results: { ...row.results, ...(await outcome.write(tx)) } });
      });
      services.outbox.kick();
      return { kind: "again" };
    case "repeat":
      await repeatFrom(services, run, outcome.from, outcome.message);
      return { kind: "again" };
    case "done":
      await change(services, run, async (store, row) => {
        await noteDone(store, row, step.type, outcome.message, outcome.results);
      });
      return { kind: "again" };
  }
}

/** Forgets what a step and those after it have come to. Gate and approval were of other numbers. */
async function repeatFrom(services: Services, run: PipelineRunRow, from: "evaluate", message: string): Promise<void> {
  await change(services, run, async (store, row) => {
    const {
      evaluations: _evaluations,
      gate: _gate,
      approval: _approval,
      production: _production,
      ...kept
    } = row.results;
    const repeats = (kept.repeats ?? 0) + 1;
    const forgotten = row.spec.steps
      .slice(row.spec.steps.findIndex(({ type }) => type === from))
      .map(({ type }) => type);
    const done = kept.done.filter((step) => !(forgotten as string[]).includes(step));
    const startedAt = Object.fromEntries(
      Object.entries(kept.startedAt).filter(([step]) => !(forgotten as string[]).includes(step)),
    );
    await store.append(row.id, {
      key: `repeat-${repeats}`,
      actor: "drydock",
      step: from,
      type: "step.repeated",
      message,
    });
    await store.changeRun(row, { message, results: { ...kept, done, startedAt, repeats } });
  });
}

/** Notes that a step is done. The run's row must be locked. */
async function noteDone(
  store: PipelineStore,
  row: PipelineRunRow,
  step: PipelineStep["type"],
  message: string,
  results: Partial<PipelineResults> = {},
): Promise<void> {
  const done = [...row.results.done, step];
  await store.append(row.id, {
    key: timelineKey(row, `${step}-done`),
    actor: "drydock",
    step,
    type: "step.done",
    message,
  });
  await store.changeRun(row, { message, results: { ...row.results, ...results, done } });
}

/**
 * Promotes the candidate of a run and notes it, in the caller's transaction, while the run is at that step: one that was cancelled while the
 * files were verified promotes nothing.
 *
 * @throws ConflictError `pipeline_run_moved_on`, and as {@link promoteModel}
 */
export async function promoteCandidate(tx: Database, runId: string, promotion: Promotion): Promise<PromotionResult> {
  const store = new PipelineStore(tx);
  const row = await store.lockRun(runId);
  const { number, spec, state, results } = row;
  if (state !== "running" || stepOf(row)?.type !== "promote")
    throw new ConflictError(
      "pipeline_run_moved_on",
      `run ${number} of pipeline ${spec.name} is ${state}${state === "running" ? " at another step" : ""}: it promotes nothing now`,
    );
  const result = await promoteModel(tx, promotion);
  const { previous } = result;
  const message = `${results.candidate} is in production${previous === null ? "" : `, in place of version ${previous}`}`;
  await noteDone(store, row, "promote", message, { promoted: true });
  return result;
}

/** A step's fault that no waiting mends ends the run with its sentence. */
async function lookAt(services: Services, run: PipelineRunRow, step: PipelineStep): Promise<StepOutcome> {
  try {
    return await steps(services, run, step);
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    return { kind: "end", state: "failed", message: `step ${step.type}: ${messageOf(error)}` };
  }
}

async function beginStep(services: Services, run: PipelineRunRow, step: PipelineStep): Promise<PipelineAdvance> {
  const message = started[step.type];
  await change(services, run, async (store, row, tx) => {
    const startedAt = { ...row.results.startedAt, [step.type]: new Date().toISOString() };
    await store.append(row.id, {
      key: timelineKey(row, `${step.type}-started`),
      actor: "drydock",
      step: step.type,
      type: "step.started",
      message,
    });
    await store.changeRun(row, { message, results: { ...row.results, startedAt } });
    if (step.type === "approve") await askForApproval(tx, row);
  });
  return { kind: "again" };
}

/** Somebody has to know that a run waits for a person. */
async function askForApproval(tx: Database, { id, number, spec, results }: PipelineRunRow): Promise<void> {
  const { candidate = null, gate = null } = results;
  const data = { pipelineRun: id, pipeline: spec.name, number, candidate, gate };
  await emitEvent(tx, { type: "pipeline-run.awaiting-approval", data });
}

const started: Readonly<Record<PipelineStep["type"], string>> = {
  validate: "waiting until the data set is checked",
  train: "training",
  sweep: "trying settings",
  evaluate: "scoring the candidate and what is in production",
  gate: "holding the candidate against the rules",
  approve: "waiting for a person's approval",
  promote: "verifying the candidate's files and putting it into production",
  deploy: "moving the alias that deployments follow",
  watch: "watching what it answers in use",
};

async function cancelRun(services: Services, run: PipelineRunRow): Promise<PipelineAdvance> {
  const isOver = await cancelWork(services, run);
  return isOver ? await endRun(services, run, "cancelled", `cancelled: ${run.message}`) : { kind: "wait" };
}

async function endRun(
  services: Services,
  run: PipelineRunRow,
  state: "succeeded" | "refused" | "failed" | "cancelled",
  message: string,
  results: Partial<PipelineResults> = {},
): Promise<PipelineAdvance> {
  // What it has started and does not wait for any more would hold workers for nobody.
  if (state === "failed") await cancelWork(services, run);
  await change(services, run, async (store, row) => {
    await store.append(row.id, { key: "ended", actor: "drydock", step: null, type: "ended", message });
    await store.changeRun(row, { state, message, results: { ...row.results, ...results } });
  });
  return await lookAfterEnd(services, run);
}

async function endWithRollback(services: Services, run: PipelineRunRow, rollback: Rollback): Promise<PipelineAdvance> {
  try {
    await change(services, run, async (store, row, tx) => {
      const { name, version } = await rollBack(tx, rollback);
      const message = `${rollback.message}: ${name}@${version} is in production again`;
      await store.append(row.id, { key: "ended", actor: "drydock", step: null, type: "ended", message });
      await store.changeRun(row, { state: "rolled-back", message });
    });
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    return await endRun(services, run, "failed", `${rollback.message}: ${messageOf(error)}`);
  }
  return await lookAfterEnd(services, run);
}

async function lookAfterEnd(services: Services, { id }: PipelineRunRow): Promise<PipelineAdvance> {
  const now = await services.pipelines.getRun(id);
  // Cancelled or approved since it was looked at: it is looked at again.
  return openPipelineRunStates.includes(now.state) ? { kind: "again" } : await over(services, now);
}

/** Whoever waits for this run's end is started; also when the one that ended it died before that. */
async function over({ database, outbox }: Services, run: PipelineRunRow): Promise<PipelineAdvance> {
  await database.transaction(async (tx) => await startNext(tx, run.spec.name));
  if (run.state === "succeeded") await startPipelinesAfter(database, run);
  outbox.kick();
  return { kind: "over" };
}

/** Does something to a run that is still as it was when the step was looked at; nothing when it has changed meanwhile. */
async function change(
  { database }: Pick<Services, "database">,
  seen: PipelineRunRow,
  write: (store: PipelineStore, row: PipelineRunRow, tx: Database) => Promise<void>,
): Promise<void> {
  await database.transaction(async (tx) => {
    const store = new PipelineStore(tx);
    const row = await store.lockRun(seen.id);
    if (row.revision === seen.revision) await write(store, row, tx);
  });
}

function stepOf({ spec, results }: PipelineRunRow): PipelineStep | undefined {
  return spec.steps.find(({ type }) => !results.done.includes(type));
}

async function messageOfSuccess(services: Services, { candidate, promoted }: PipelineResults): Promise<string> {
  if (!promoted) return `${candidate} was made`;
  const present = await productionOf(services, candidateOf(candidate).name);
  return present === candidate
    ? `${candidate} is in production`
    : `${candidate} was put into production, where ${present ?? "nothing"} is now`;
}

/** Ends a run for what only the controller has seen: damaged files, or a fault that no retry mends. */
export async function failPipelineRun(services: Services, id: string, message: string): Promise<void> {
  for (;;) {
    const run = await services.pipelines.getRun(id);
    if (!openPipelineRunStates.includes(run.state)) return;
    await endRun(services, run, "failed", message);
  }
}
