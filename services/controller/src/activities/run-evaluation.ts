import { datasetKeys, effectiveSystemPrompt, readManifest } from "@drydock/data";
import { isDrydockError, messageOf } from "@drydock/kit";
import type { ReportRequest } from "@drydock/proto";
import {
  resultsKeyOf,
  type EvaluationInput,
  type EvaluationShard,
  type EvaluationUpdate,
  type EvaluationWorkerConfig,
} from "@drydock/spec";
import type { EvaluationEnd, EvaluationShardInput, JoinInput, ShardOutcome } from "@drydock/workflows";
import type { AttemptEnd } from "../attempts/attempt-end.ts";
import type { HostedAttempt } from "../attempts/attempt-host.ts";
import type { WatchSignals } from "../attempts/watch-gang.ts";
import { joinShards } from "./join-shards.ts";
import type { RunAttemptDependencies } from "./run-attempt.ts";
import { storedDetails } from "./stored-details.ts";

/** Workers of one evaluation (or shard) at most; a worker that was lost is no fault of the evaluation, but three are. */
const maxAttempts = 3;

/** What a worker is to answer, and who hears of it. */
interface EvaluationWork {
  readonly input: EvaluationInput;
  readonly shard?: EvaluationShard;
  /** Told when the worker starts. */
  readonly startMessage: string;
  readonly onReport: (report: ReportRequest) => Promise<void>;
}

/** One worker for all rows; its scores are told when it reports them. */
export async function evaluateWhole(
  dependencies: RunAttemptDependencies,
  input: EvaluationInput,
  signals: WatchSignals,
): Promise<void> {
  const { api, storage, logger } = dependencies;
  const onReport = async ({ evaluations }: ReportRequest): Promise<void> => {
    const result = evaluations.at(-1);
    if (!result) return;
    const { scores, samples, seconds } = result;
    const resultsKey = result.resultsKey || null;
    const details = await storedDetails(storage, resultsKey, logger);
    const update = { state: "succeeded", message: "done", scores, samples, seconds, resultsKey, details } as const;
    await api.hasty().putEvaluation(input.evaluationId, updateOf(input, update));
  };
  const startMessage = "a worker answers the validation split";
  const failure = await evaluate(dependencies, { input, startMessage, onReport }, signals);
  // Stopped because it was asked for: the workflow says how it ended.
  signals.stop.throwIfAborted();
  if (failure !== null)
    await api.putEvaluation(input.evaluationId, updateOf(input, { state: "failed", message: failure }));
}

/** Starts a worker, or takes over the one that runs, and watches it to its end. Answers why there are no answers, or null. */
async function evaluate(
  dependencies: RunAttemptDependencies,
  work: EvaluationWork,
  signals: WatchSignals,
): Promise<string | null> {
  const { host } = dependencies;
  const { onReport } = work;
  const id = workerIdOf(work);
  const epoch = await host.newestEpoch(id);
  const adopted = epoch === 0 ? null : await host.adopt(id, epoch, onReport);
  if (!adopted && epoch > 0) {
    const end = await host.endOfUnwatched(id, epoch);
    if (end.reason !== "worker-lost") return failureOf(end);
  }
  const hosted = adopted ?? (await launch(dependencies, work, epoch + 1, signals));
  if (typeof hosted === "string") return hosted;
  const end = await host.watch(hosted, signals);
  if (end.reason === "worker-lost" && hosted.session.epoch < maxAttempts)
    throw new Error(`the worker was lost: ${end.message}`);
  return failureOf(end);
}

function failureOf(end: AttemptEnd): string | null {
  return end.kind === "succeeded" ? null : end.message;
}

/** Under which attempts are kept: the evaluation's id, or that of its part. */
function workerIdOf({ input: { evaluationId }, shard }: EvaluationWork): string {
  return shard === undefined ? evaluationId : `${evaluationId}-s${shard.index}`;
}

/** A worker, once there is room for it; or the sentence that says why there can be none. */
async function launch(
  dependencies: RunAttemptDependencies,
  work: EvaluationWork,
  epoch: number,
  signals: WatchSignals,
): Promise<HostedAttempt | string> {
  const { api, capacity, host } = dependencies;
  const { input, shard, startMessage, onReport } = work;
  const { evaluationId } = input;
  const id = workerIdOf(work);
  const claim = {
    id,
    priority: "normal",
    queue: "default",
    slots: 1,
    accelerator: null,
    gpus: 0,
    tell: () => undefined,
  } as const;
  const release = await capacity.acquire(claim, AbortSignal.any([signals.stop, signals.abandon]));
  return await capacity.holdFor(release, async () => {
    const config = await configOrReason(dependencies, input, shard);
    if (typeof config === "string") return config;
    await api.putEvaluation(evaluationId, updateOf(input, { state: "running", message: startMessage }));
    const part = shard === undefined ? "" : `shards/${shard.index}/`;
    return await host.start(
      {
        id,
        epoch,
        configJson: JSON.stringify(config),
        ranks: 1,
        placement: { accelerator: null, gpusPerRank: 0, queue: "default", priority: "normal", avoidNodes: [] },
        logPrefix: `evaluations/${evaluationId}/${part}attempts/${epoch}`,
      },
      onReport,
    );
  });
}

/** One worker for a part of the rows; it tells nobody but the workflow how it ended. */
export async function evaluateShard(
  dependencies: RunAttemptDependencies,
  { shard, ...input }: EvaluationShardInput,
  signals: WatchSignals,
): Promise<ShardOutcome> {
  let seconds: number | null = null;
  const work: EvaluationWork = {
    input,
    shard,
    startMessage: `${shard.count} workers answer the validation split, a part each`,
    onReport: async ({ evaluations }) => void (seconds = evaluations.at(-1)?.seconds ?? seconds),
  };
  const failure = await evaluate(dependencies, work, signals);
  return { failure, seconds };
}

/** Joins the rows of all shards, or says why there are none. */
export async function joinOrFail({ api, storage }: RunAttemptDependencies, input: JoinInput): Promise<void> {
  const { failure, seconds, ...rest } = input;
  const { evaluationId, spec } = rest;
  if (failure !== null)
    return await api.putEvaluation(evaluationId, updateOf(rest, { state: "failed", message: failure }));
  const joined = await joinShards(storage, evaluationId, spec);
  const resultsKey = resultsKeyOf(evaluationId);
  const update = { state: "succeeded", message: "done", ...joined, seconds, resultsKey } as const;
  await api.putEvaluation(evaluationId, updateOf(rest, update));
}

/** Writes down that nothing was scored, and why. */
export async function noteEnd(
  { api }: RunAttemptDependencies,
  { state, message, ...input }: EvaluationEnd,
): Promise<void> {
  await api.putEvaluation(input.evaluationId, updateOf(input, { state, message }));
}

function updateOf({ spec }: EvaluationInput, update: Partial<EvaluationUpdate>): EvaluationUpdate {
  return {
    runId: null,
    phase: "standalone",
    step: null,
    state: "running",
    message: "",
    spec,
    scores: null,
    samples: 0,
    seconds: null,
    resultsKey: null,
    ...update,
  };
}

/** The config of the worker, or the sentence that says why there can be none. */
async function configOrReason(
  { models, storage, threads }: RunAttemptDependencies,
  { evaluationId, spec, datasetId, datasetVersion }: EvaluationInput,
  shard: EvaluationShard | undefined,
): Promise<EvaluationWorkerConfig | string> {
  try {
    const { card, ...model } = await models.locate(spec.model);
    const manifest = await readManifest(storage, datasetId, datasetVersion);
    return {
      kind: "evaluate",
      evaluationId,
      ...(shard && { shard }),
      spec: {
        ...spec,
        image: {
          ...card?.image,
          ...spec.image,
        },
      },
      ...model,
      threads,
      recordsSha256: manifest?.recordsSha256 ?? null,
      recordsKey: datasetKeys.records(datasetId, datasetVersion),
      systemPrompt: spec.systemPrompt ?? card?.systemPrompt ?? effectiveSystemPrompt(spec),
    };
  } catch (error) {
    if (isDrydockError(error) && !error.isRetryable) return messageOf(error);
    throw error;
  }
}
