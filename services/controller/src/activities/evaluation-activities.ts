import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { activityInfo } from "@temporalio/activity";
import { datasetKeys, effectiveSystemPrompt } from "@drydock/data";
import { isDrydockError, messageOf } from "@drydock/kit";
import { Directive } from "@drydock/proto";
import type { EvaluationInput, EvaluationUpdate, EvaluationWorkerConfig } from "@drydock/spec";
import type { EvaluationActivities } from "@drydock/workflows";
import type { AttemptSession } from "../attempts/attempt-registry.ts";
import { classifyEnd } from "./attempt-end.ts";
import { beating } from "./beating.ts";
import type { RunDependencies } from "./run-activities.ts";
import { watchPod } from "./watch-pod.ts";

type Dependencies = Omit<RunDependencies, "backend"> & Pick<RunDependencies, "backend">;

export function createEvaluationActivities(dependencies: Dependencies): EvaluationActivities {
  return {
    /** Safe to retry: an evaluation only reads, and its result is written under its id. */
    async runEvaluation(input) {
      await beating(async (stopSignal) => await evaluate(dependencies, input, stopSignal));
    },
  };
}

async function evaluate(dependencies: Dependencies, input: EvaluationInput, stopSignal: AbortSignal): Promise<void> {
  const { api, capacity } = dependencies;
  const update = async (change: Partial<EvaluationUpdate>): Promise<void> => await api.putEvaluation(input.evaluationId, { ...emptyUpdate(input), ...change });
  let config: EvaluationWorkerConfig;
  try {
    config = await evaluationConfig(dependencies, input);
  } catch (error) {
    if (!isDrydockError(error) || error.isRetryable) throw error;
    return await update({ state: "failed", message: messageOf(error) });
  }
  const release = await capacity.acquire("normal", "default", () => undefined, stopSignal);
  try {
    await update({ state: "running", message: "a worker scores the model" });
    await runWorker(dependencies, input, config, update, stopSignal);
  } finally {
    release();
  }
}

async function runWorker(dependencies: Dependencies, input: EvaluationInput, config: EvaluationWorkerConfig, update: (change: Partial<EvaluationUpdate>) => Promise<void>, stopSignal: AbortSignal): Promise<void> {
  const { registry, backend } = dependencies;
  const id = input.evaluationId;
  const epoch = activityInfo().attempt;
  let result: Partial<EvaluationUpdate> = {};
  const session: AttemptSession = {
    id,
    epoch,
    token: randomBytes(24).toString("base64url"),
    configJson: JSON.stringify(config),
    directive: Directive.CONTINUE,
    outcome: null,
    lastReportAtMs: Date.now(),
    onReport: async (report) => {
      const last = report.evaluations.at(-1);
      if (last) result = { scores: last.scores, samples: last.samples, seconds: last.seconds, resultsKey: last.resultsKey };
    },
  };
  // A worker of an earlier try speaks with an older epoch and is told to stop.
  registry.add(session);
  try {
    const scratch = join(dependencies.stateDirectory, "scratch", id);
    await mkdir(scratch, { recursive: true });
    const pod = await backend.start({
      name: `${id}-a${epoch}-r0`,
      memoryLimitBytes: dependencies.memoryLimitBytes,
      logKey: `evaluations/${id}/attempts/${epoch}/rank-0.log`,
      environment: {
        DRYDOCK_RUN_ID: id,
        DRYDOCK_EPOCH: String(epoch),
        DRYDOCK_RANK: "0",
        DRYDOCK_WORKER_TOKEN: session.token,
        DRYDOCK_CONTROLLER_URL: dependencies.controllerUrl,
        STORAGE_URL: dependencies.storageUrl,
        DRYDOCK_SCRATCH: scratch,
      },
    });
    const { end, wasHung } = await watchPod({ pod, session, reportDeadlineMs: dependencies.reportDeadlineMs, stopSignal });
    const { kind, reason, message } = classifyEnd(end, session.outcome, wasHung);
    if (kind === "succeeded") return await update({ ...result, state: "succeeded", message });
    if (reason === "worker-lost" || reason === "preempted" || reason === "storage-unavailable") throw new Error(message);
    await update({ state: "failed", message });
  } finally {
    registry.remove(session);
  }
}

async function evaluationConfig({ models, threads }: Dependencies, { evaluationId, spec, datasetId, datasetVersion }: EvaluationInput): Promise<EvaluationWorkerConfig> {
  const { modelDirectory, adapterDirectory, card } = await models.locate(spec.model);
  return {
    kind: "evaluate",
    evaluationId,
    spec,
    modelDirectory,
    adapterDirectory,
    recordsKey: datasetKeys.records(datasetId, datasetVersion),
    // The prompt that the model was trained with, unless the user gives one.
    systemPrompt: spec.systemPrompt ?? card?.systemPrompt ?? effectiveSystemPrompt(spec),
    threads,
  };
}

function emptyUpdate({ spec }: EvaluationInput): EvaluationUpdate {
  return { runId: null, phase: "standalone", step: null, state: "queued", message: "", spec, scores: null, samples: 0, seconds: null, resultsKey: null };
}
