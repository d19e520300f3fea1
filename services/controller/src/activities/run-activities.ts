import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Context, activityInfo } from "@temporalio/activity";
import { effectiveSystemPrompt, datasetKeys } from "@drydock/data";
import { isDrydockError, messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import { Directive } from "@drydock/proto";
import type { Attempt, InternalRun, WorkerConfig } from "@drydock/spec";
import type { AttemptOutcome, RunActivities } from "@drydock/workflows";
import type { AttemptRegistry, AttemptSession } from "../attempts/attempt-registry.ts";
import type { Capacity } from "../attempts/capacity.ts";
import type { ClusterBackend, Pod } from "../backend/cluster-backend.ts";
import type { InternalApi } from "../internal-api.ts";
import type { ModelLocator } from "../models/model-locator.ts";
import { reserveModelVersion } from "../models/model-version.ts";
import { classifyEnd } from "./attempt-end.ts";
import { beating } from "./beating.ts";
import { registrationOf } from "./model-registration.ts";
import { meaningOf } from "./run-report.ts";
import { watchPod } from "./watch-pod.ts";

export interface RunDependencies {
  readonly api: InternalApi;
  readonly backend: ClusterBackend;
  readonly capacity: Capacity;
  readonly registry: AttemptRegistry;
  readonly models: ModelLocator;
  readonly storage: ObjectStorage;
  readonly storageUrl: string;
  readonly controllerUrl: string;
  readonly stateDirectory: string;
  readonly threads: number;
  readonly memoryLimitBytes: number | null;
  readonly reportDeadlineMs: number;
  readonly logger: Logger;
}

/** What an attempt must remember beyond a restart of the controller. */
interface AttemptSecret {
  readonly epoch: number;
  readonly token: string;
  readonly configJson: string;
}

const heartbeatIntervalMs = 2_000;

export function createRunActivities(dependencies: RunDependencies): RunActivities {
  const { api } = dependencies;
  return {
    /** Reads only. */
    async loadRun({ runId }) {
      const { state, spec, plan } = await api.run(runId);
      return {
        state,
        retries: spec.retries,
        deadlineSeconds: spec.deadlineSeconds,
        microBatchSize: plan.layout?.microBatchSize ?? 1,
        isRefused: plan.refusals.length > 0 || plan.layout === null,
        refusal: plan.refusals.map(({ message }) => message).join(" "),
      };
    },

    /** Safe to retry: the api keeps one event per key. */
    async transitionRun({ runId, key, to, reason, message, attempt }) {
      await api.transition(runId, { key, to, reason, message, attempt });
    },

    /** Safe to retry: the event has a key. */
    async recordRemedy({ runId, key, reason, message, attempt }) {
      const time = new Date().toISOString();
      await api.report(runId, { events: [{ key, time, actor: "controller", type: "remedy.applied", from: null, to: null, reason, message, attempt, step: null }] });
    },

    /**
     * Safe to retry: an attempt whose worker is still there is adopted; one whose worker is gone has ended, and the
     * answer says how.
     */
    async runAttempt({ runId, microBatchSize }) {
      return await beating(async (stopSignal) => await runAttempt(dependencies, runId, microBatchSize, stopSignal));
    },

    /** Safe to retry: the model is registered by name and version, the last transition has a key. */
    async publishRun({ runId, epoch, modelKey }) {
      const registration = await registrationOf(dependencies.storage, modelKey);
      await api.registerModel(registration);
      const model = `${registration.name}@${registration.version}`;
      const time = new Date().toISOString();
      await api.report(runId, { events: [{ key: "published", time, actor: "controller", type: "model.published", from: null, to: null, reason: "completed", message: `model ${model} is ready`, attempt: epoch, step: null }] });
      await api.transition(runId, { key: "succeeded", to: "succeeded", reason: "completed", message: `done: model ${model}`, attempt: epoch });
    },
  };
}

async function runAttempt(dependencies: RunDependencies, runId: string, microBatchSize: number, stopSignal: AbortSignal): Promise<AttemptOutcome> {
  const { api, registry, logger } = dependencies;
  const run = await api.run(runId);
  const open = run.attempts.findLast(({ state }) => state === "starting" || state === "running" || state === "stopping");
  const adopted = open ? await adopt(dependencies, run, open) : null;
  if (open && !adopted) return await lostAttempt(dependencies, run, open);
  const release = await waitForSlot(dependencies, run, stopSignal, adopted !== null);
  if (!release) return { kind: "stopped", epoch: open?.epoch ?? run.attempts.length, reason: "preempted", message: "stopped while waiting for a worker", lastStep: lastStepOf(run), modelKey: "" };
  try {
    const { session, pod, attempt } = adopted ?? (await launch(dependencies, run, microBatchSize));
    try {
      logger.info({ runId, attempt: session.epoch, adopted: adopted !== null }, "attempt is watched");
      const { end, wasHung } = await watchPod({ pod, session, reportDeadlineMs: dependencies.reportDeadlineMs, stopSignal });
      return await finish(dependencies, runId, attempt, classifyEnd(end, session.outcome, wasHung), end.exitCode ?? session.outcome?.exitCode ?? null);
    } finally {
      registry.remove(session);
    }
  } catch (error) {
    if (isDrydockError(error) && !error.isRetryable) return { kind: "failed", epoch: run.attempts.length, reason: "bad-config", message: messageOf(error), lastStep: lastStepOf(run), modelKey: "" };
    throw error;
  } finally {
    release();
  }
}

function lastStepOf({ attempts }: InternalRun): number {
  return attempts.at(-1)?.lastStep ?? 0;
}

/** Null when the user stopped the run while it waited. */
async function waitForSlot({ api, capacity, logger }: RunDependencies, run: InternalRun, stopSignal: AbortSignal, isRunning: boolean): Promise<(() => void) | null> {
  let told = 0;
  const tell = (why: string): void => {
    if (isRunning) return;
    const key = `waiting-${run.attempts.length}-${activityInfo().attempt}-${told++}`;
    api.transition(run.id, { key, to: "queued", reason: "waiting-for-capacity", message: why }).catch((error: unknown) => logger.warn({ runId: run.id, error: messageOf(error) }, "reason for waiting is not told"));
  };
  try {
    return await capacity.acquire(run.spec.priority, run.spec.queue, tell, stopSignal);
  } catch (error) {
    if (stopSignal.aborted) return null;
    throw error;
  }
}

interface Watched {
  readonly session: AttemptSession;
  readonly pod: Pod;
  readonly attempt: Attempt;
}

/** Starts the next attempt: epoch + 1, a new token, one worker. */
async function launch(dependencies: RunDependencies, run: InternalRun, microBatchSize: number): Promise<Watched> {
  const { api, backend, registry } = dependencies;
  const epoch = (run.attempts.at(-1)?.epoch ?? 0) + 1;
  const attempt: Attempt = { epoch, state: "starting", failureClass: null, message: null, exitCode: null, fromStep: run.attempts.at(-1)?.lastStep ?? 0, lastStep: run.attempts.at(-1)?.lastStep ?? 0, microBatchSize, startedAt: new Date().toISOString(), endedAt: null };
  const config = await workerConfig(dependencies, run, microBatchSize);
  const secret: AttemptSecret = { epoch, token: randomBytes(24).toString("base64url"), configJson: JSON.stringify(config) };
  await writeSecret(dependencies, run.id, secret);
  await api.putAttempt(run.id, attempt);
  await api.transition(run.id, { key: `${epoch}-starting`, to: "scheduling", reason: "starting-worker", message: `starting attempt ${epoch}${epoch > 1 ? ` from the checkpoint of step ${attempt.fromStep}` : ""}`, attempt: epoch });
  const session = newSession(dependencies, run, secret, attempt);
  registry.add(session);
  const scratch = join(dependencies.stateDirectory, "scratch", run.id);
  await mkdir(scratch, { recursive: true });
  const pod = await backend.start({
    name: podName(run.id, epoch),
    memoryLimitBytes: dependencies.memoryLimitBytes,
    logKey: `runs/${run.id}/attempts/${epoch}/rank-0.log`,
    environment: {
      DRYDOCK_RUN_ID: run.id,
      DRYDOCK_EPOCH: String(epoch),
      DRYDOCK_RANK: "0",
      DRYDOCK_WORKER_TOKEN: secret.token,
      DRYDOCK_CONTROLLER_URL: dependencies.controllerUrl,
      STORAGE_URL: dependencies.storageUrl,
      DRYDOCK_SCRATCH: scratch,
    },
  });
  return { session, pod, attempt };
}

/** Takes over a worker that an earlier controller (or an earlier try of this activity) started; null when it is gone. */
async function adopt(dependencies: RunDependencies, run: InternalRun, attempt: Attempt): Promise<Watched | null> {
  const pod = await dependencies.backend.find(podName(run.id, attempt.epoch));
  const secret = await readSecret(dependencies, run.id);
  if (!pod || secret?.epoch !== attempt.epoch) {
    pod?.kill();
    return null;
  }
  const session = newSession(dependencies, run, secret, attempt);
  dependencies.registry.add(session);
  return { session, pod, attempt };
}

function newSession(dependencies: RunDependencies, run: InternalRun, secret: AttemptSecret, attempt: Attempt): AttemptSession {
  const { api } = dependencies;
  let isMarkedRunning = attempt.state === "running";
  let lastTransitionKey = "";
  return {
    id: run.id,
    ...secret,
    directive: Directive.CONTINUE,
    outcome: null,
    lastReportAtMs: Date.now(),
    // Stored before it is acknowledged, so that what a worker was told is kept is kept.
    onReport: async (report) => {
      const meaning = meaningOf(run, report, new Date());
      for (const { id, update } of meaning.evaluations) await api.putEvaluation(id, update);
      if (hasRows(meaning.batch)) await api.report(run.id, meaning.batch);
      if (meaning.transition && meaning.transition.key !== lastTransitionKey) {
        await api.transition(run.id, meaning.transition);
        lastTransitionKey = meaning.transition.key;
      }
      const lastStep = report.steps.at(-1)?.step;
      if (lastStep !== undefined || !isMarkedRunning) {
        Object.assign(attempt, { state: "running", ...(lastStep === undefined ? {} : { lastStep }) });
        await api.putAttempt(run.id, attempt);
        isMarkedRunning = true;
      }
    },
  };
}

function hasRows({ metrics = [], checkpoints = [], events = [], progress, scores }: ReturnType<typeof meaningOf>["batch"]): boolean {
  return metrics.length + checkpoints.length + events.length > 0 || progress !== undefined || scores !== undefined;
}

/** The attempt's worker went away while nobody watched. */
async function lostAttempt(dependencies: RunDependencies, run: InternalRun, attempt: Attempt): Promise<AttemptOutcome> {
  return await finish(dependencies, run.id, attempt, { kind: "failed", reason: "worker-lost", message: "the worker was gone when the controller came back", modelKey: "" }, null);
}

async function finish({ api }: RunDependencies, runId: string, attempt: Attempt, end: Pick<AttemptOutcome, "kind" | "reason" | "message" | "modelKey">, exitCode: number | null): Promise<AttemptOutcome> {
  const state = end.kind;
  await api.putAttempt(runId, { ...attempt, state, failureClass: end.kind === "failed" ? end.reason : null, message: end.message, exitCode, endedAt: new Date().toISOString() });
  return { ...end, epoch: attempt.epoch, lastStep: attempt.lastStep };
}

async function workerConfig({ models, storage, threads }: RunDependencies, run: InternalRun, microBatchSize: number): Promise<WorkerConfig> {
  const { spec, plan } = run;
  const layout = plan.layout;
  if (!layout) throw new Error(`run ${run.id} has a plan without a layout`);
  const perStep = microBatchSize * layout.dataParallel;
  return {
    kind: "train",
    runId: run.id,
    spec,
    layout: { ...layout, microBatchSize, accumulationSteps: Math.ceil(spec.training.globalBatchSize / perStep) },
    totalSteps: plan.steps.total,
    modelDirectory: await models.base(spec.model),
    recordsKey: datasetKeys.records(run.datasetId, run.datasetVersion),
    systemPrompt: effectiveSystemPrompt(spec),
    planDigest: plan.digest,
    datasetDigest: null,
    modelName: spec.name,
    modelVersion: await reserveModelVersion(storage, spec.name, run.id),
    threads,
  };
}

function podName(runId: string, epoch: number): string {
  return `${runId}-a${epoch}-r0`;
}

function secretPath({ stateDirectory }: RunDependencies, runId: string): string {
  return join(stateDirectory, "attempts", `${runId}.json`);
}

async function writeSecret(dependencies: RunDependencies, runId: string, secret: AttemptSecret): Promise<void> {
  await mkdir(join(dependencies.stateDirectory, "attempts"), { recursive: true });
  await writeFile(secretPath(dependencies, runId), JSON.stringify(secret), { mode: 0o600 });
}

async function readSecret(dependencies: RunDependencies, runId: string): Promise<AttemptSecret | null> {
  try {
    return JSON.parse(await readFile(secretPath(dependencies, runId), "utf8")) as AttemptSecret;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}
