import { effectiveSystemPrompt, datasetKeys, readManifest } from "@drydock/data";
import { isDrydockError, messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import type { ReportRequest } from "@drydock/proto";
import { layoutsOf, type Attempt, type InternalRun, type Layout, type WorkerConfig } from "@drydock/spec";
import type { AttemptInput, AttemptOutcome } from "@drydock/workflows";
import { withSteps } from "./attempt-steps.ts";
import type { AttemptEnd } from "../attempts/attempt-end.ts";
import type { AttemptHost, HostedAttempt } from "../attempts/attempt-host.ts";
import type { Admission } from "../attempts/capacity.ts";
import type { WatchSignals } from "../attempts/watch-gang.ts";
import type { Placement } from "../backend/cluster-backend.ts";
import type { InternalApi } from "../internal-api.ts";
import type { ModelLocator } from "../models/model-locator.ts";
import { reserveModelVersion } from "../models/model-version.ts";
import { OrderedTells } from "./ordered-tells.ts";
import { meaningOf } from "./run-report.ts";
import { storedDetails } from "./stored-details.ts";

export interface RunAttemptDependencies {
  readonly api: InternalApi;
  readonly host: AttemptHost;
  readonly capacity: Admission;
  readonly models: ModelLocator;
  readonly storage: ObjectStorage;
  /** Compute threads of one worker. */
  readonly threads: number;
  readonly logger: Logger;
}

/** States of an attempt whose worker may still be there. */
const openStates: readonly Attempt["state"][] = ["starting", "running", "stopping"];

/** One try of a run: waits for a slot, starts a worker (or takes over the one that runs), and watches it to its end. */
export async function runAttempt(
  dependencies: RunAttemptDependencies,
  { runId, afterEpoch, layout: layoutIndex, isStopping }: AttemptInput,
  given: WatchSignals,
): Promise<AttemptOutcome> {
  const { api, host, capacity } = dependencies;
  const signals = isStopping ? { ...given, stop: AbortSignal.abort() } : given;
  const run = await api.run(runId);
  const tells = new OrderedTells(api, runId, dependencies.logger);
  const open = run.attempts.findLast(({ state }) => openStates.includes(state));
  if (open) {
    const hosted = await host.adopt(runId, open.epoch, reportsOf(dependencies, run, open, tells));
    if (hosted) return await watch(dependencies, runId, open, hosted, signals, tells);
    const isToStart =
      open.state === "starting" && !signals.stop.aborted && !(await host.hasReportedEnd(runId, open.epoch));
    if (!isToStart) return await finish(dependencies, runId, open, await host.endOfUnwatched(runId, open.epoch));
  }
  const ended = open ? undefined : run.attempts.findLast(({ epoch }) => epoch > afterEpoch);
  if (ended) return await outcomeOfEnded(host, runId, ended);
  // A plan that was replaced just now may have fewer layouts than the one that the workflow knows.
  const layouts = layoutsOf(run.plan);
  const layout = layouts[layoutIndex] ?? layouts[0];
  if (!layout) throw new Error(`run ${run.id} has a plan without a layout`);
  const release = await waitForSlot(dependencies, run, signals, tells);
  if (!release) return notStarted(run, "stopped", "preempted", "stopped while waiting for a worker");
  // One that never came to run (the cluster was away when its workers were to start) is started under its own number.
  const attempt = open ?? nextAttempt(run, layout);
  const hosted = await capacity.holdFor(release, async () => {
    const config = await configOrReason(dependencies, run, layout);
    return typeof config === "string" ? config : await launch(dependencies, run, attempt, config, tells);
  });
  if (typeof hosted === "string") return notStarted(run, "failed", "bad-config", hosted);
  return await watch(dependencies, runId, attempt, hosted, signals, tells);
}

/** This attempt ended, but the controller that saw it did not live to tell the workflow. */
async function outcomeOfEnded(
  host: AttemptHost,
  runId: string,
  { epoch, state, failureClass, message, lastStep }: Attempt,
): Promise<AttemptOutcome> {
  const { modelKey } = await host.endOfUnwatched(runId, epoch);
  const kind = state === "succeeded" || state === "stopped" ? state : "failed";
  const reason = failureClass ?? (kind === "succeeded" ? "completed" : "preempted");
  return { kind, epoch, reason, message: message ?? "", lastStep, modelKey };
}

function notStarted(
  { attempts }: InternalRun,
  kind: "stopped" | "failed",
  reason: AttemptOutcome["reason"],
  message: string,
): AttemptOutcome {
  return { kind, epoch: null, reason, message, lastStep: attempts.at(-1)?.lastStep ?? 0, modelKey: "" };
}

/** Null when the user stopped the run while it waited. */
async function waitForSlot(
  { capacity }: RunAttemptDependencies,
  run: InternalRun,
  signals: WatchSignals,
  tells: OrderedTells,
): Promise<(() => void) | null> {
  const tell = (message: string): void =>
    // The sentence is its own key's end: the same reason to wait is one event, however often it comes back.
    tells.tell({
      key: `waiting-${run.attempts.length}-${message}`,
      to: "queued",
      reason: "waiting-for-capacity",
      message,
    });
  try {
    const release = await capacity.acquire(
      {
        id: run.id,
        priority: run.spec.priority,
        queue: run.spec.queue,
        slots: run.plan.layout?.pods ?? 1,
        accelerator: placementOf(run).accelerator,
        gpus: run.plan.layout?.gpus ?? 0,
        tell,
      },
      AbortSignal.any([signals.stop, signals.abandon]),
    );
    await tells.settled();
    return release;
  } catch (error) {
    if (signals.stop.aborted) return null;
    throw error;
  }
}

function nextAttempt({ attempts }: InternalRun, { microBatchSize }: Layout): Attempt {
  const before = attempts.at(-1);
  const fromStep = before?.lastStep ?? 0;
  return {
    epoch: (before?.epoch ?? 0) + 1,
    state: "starting",
    failureClass: null,
    message: null,
    exitCode: null,
    fromStep,
    lastStep: fromStep,
    microBatchSize,
    startedAt: new Date().toISOString(),
    endedAt: null,
  };
}

async function launch(
  dependencies: RunAttemptDependencies,
  run: InternalRun,
  attempt: Attempt,
  config: WorkerConfig,
  tells: OrderedTells,
): Promise<HostedAttempt> {
  const { api, host } = dependencies;
  const { epoch } = attempt;
  await api.putAttempt(run.id, attempt);
  await api.transition(run.id, {
    key: `${epoch}-starting`,
    to: "scheduling",
    reason: "starting-worker",
    attempt: epoch,
    message: epoch === 1 ? "starting a worker" : `starting a worker: attempt ${epoch}, from the last checkpoint`,
  });
  return await host.start(
    {
      id: run.id,
      epoch,
      configJson: JSON.stringify(config),
      ranks: config.layout.pods,
      placement: placementOf(run),
      logPrefix: `runs/${run.id}/attempts/${epoch}`,
    },
    reportsOf(dependencies, run, attempt, tells),
  );
}

function placementOf({ spec, plan }: InternalRun): Placement {
  const isOnGpus = plan.accelerator !== null && plan.accelerator.name !== "cpu";
  return {
    accelerator: isOnGpus ? (plan.accelerator?.name ?? null) : null,
    gpusPerRank: isOnGpus ? (plan.layout?.gpusPerPod ?? 0) : 0,
    queue: spec.queue,
    priority: spec.priority,
    avoidNodes: [],
  };
}

async function watch(
  dependencies: RunAttemptDependencies,
  runId: string,
  attempt: Attempt,
  hosted: HostedAttempt,
  signals: WatchSignals,
  tells: OrderedTells,
): Promise<AttemptOutcome> {
  tellWhyItWaits(attempt, hosted, tells);
  return await finish(dependencies, runId, attempt, await dependencies.host.watch(hosted, signals));
}

/** Hands on what the cluster says of pods that have no node, no image or no quota yet. */
function tellWhyItWaits({ epoch }: Attempt, { gang }: HostedAttempt, tells: OrderedTells): void {
  gang.onWaiting?.((message) =>
    tells.tell({
      key: `${epoch}-waiting-${message}`,
      to: "scheduling",
      reason: "waiting-in-queue",
      attempt: epoch,
      message,
    }),
  );
}

/** Stores each report before it is acknowledged, so that what a worker was told is kept is kept. */
function reportsOf(
  { api, storage, logger }: RunAttemptDependencies,
  run: InternalRun,
  attempt: Attempt,
  tells: OrderedTells,
): (report: ReportRequest) => Promise<void> {
  let isMarkedRunning = attempt.state === "running";
  let lastTransitionKey = "";
  const hasty = api.hasty();
  return async (report) => {
    await tells.settled();
    const { batch, evaluations, transition } = meaningOf(run, report, new Date());
    for (const { id, update } of evaluations) {
      const details = await storedDetails(storage, update.resultsKey, logger);
      await hasty.putEvaluation(id, { ...update, details });
    }
    if (batch) await hasty.report(run.id, batch);
    if (transition && transition.key !== lastTransitionKey) {
      await hasty.transition(run.id, transition);
      lastTransitionKey = transition.key;
    }
    if (report.rank > 0) return;
    if (report.steps.length === 0 && isMarkedRunning) return;
    Object.assign(attempt, { state: "running", ...withSteps(attempt, report.steps) });
    await hasty.putAttempt(run.id, attempt);
    isMarkedRunning = true;
  };
}

async function finish(
  { api }: RunAttemptDependencies,
  runId: string,
  attempt: Attempt,
  { exitCode, ...end }: AttemptEnd,
): Promise<AttemptOutcome> {
  const failureClass = end.kind === "failed" ? end.reason : null;
  await api.putAttempt(runId, {
    ...attempt,
    state: end.kind,
    failureClass,
    message: end.message,
    exitCode,
    endedAt: new Date().toISOString(),
  });
  return { ...end, epoch: attempt.epoch, lastStep: attempt.lastStep };
}

/** The config of the worker, or the sentence that says why there can be none. */
async function configOrReason(
  dependencies: RunAttemptDependencies,
  run: InternalRun,
  layout: Layout,
): Promise<WorkerConfig | string> {
  try {
    return await workerConfig(dependencies, run, layout);
  } catch (error) {
    if (isDrydockError(error) && !error.isRetryable) return messageOf(error);
    throw error;
  }
}

async function workerConfig(
  { models, storage, threads }: RunAttemptDependencies,
  run: InternalRun,
  layout: Layout,
): Promise<WorkerConfig> {
  const { spec, plan } = run;
  const manifest = await readManifest(storage, run.datasetId, run.datasetVersion);
  return {
    kind: "train",
    runId: run.id,
    spec,
    layout,
    totalSteps: plan.steps.total,
    ...(await models.base(spec.model)),
    recordsSha256: manifest?.recordsSha256 ?? null,
    recordsKey: datasetKeys.records(run.datasetId, run.datasetVersion),
    systemPrompt: effectiveSystemPrompt(spec),
    planDigest: plan.digest,
    datasetDigest: manifest?.digest ?? null,
    modelName: spec.name,
    modelVersion: await reserveModelVersion(storage, spec.name, run.id),
    threads,
  };
}
