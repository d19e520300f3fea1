import { datasetKeys, effectiveSystemPrompt, readManifest } from "@drydock/data";
import { isDrydockError, messageOf } from "@drydock/kit";
import type { EvaluationInput, EvaluationUpdate, EvaluationWorkerConfig } from "@drydock/spec";
import type { EvaluationActivities } from "@drydock/workflows";
import type { AttemptEnd } from "../attempts/attempt-end.ts";
import type { HostedAttempt } from "../attempts/attempt-host.ts";
import type { WatchSignals } from "../attempts/watch-gang.ts";
import type { ReportRequest } from "@drydock/proto";
import { failForGood, whileWatching } from "./activity-signals.ts";
import type { RunAttemptDependencies } from "./run-attempt.ts";
import { storedDetails } from "./stored-details.ts";

/** Workers of one evaluation at most; a worker that was lost is no fault of the evaluation, but three are. */
const maxAttempts = 3;

export function createEvaluationActivities(dependencies: RunAttemptDependencies): EvaluationActivities {
  return {
    /** Safe to retry: a worker that runs is taken over, one that is gone is started again, and the api keeps one row. */
    runEvaluation: async (input) =>
      await failForGood(
        async () => await whileWatching(async (signals) => await evaluate(dependencies, input, signals)),
      ),
  };
}

async function evaluate(
  dependencies: RunAttemptDependencies,
  input: EvaluationInput,
  signals: WatchSignals,
): Promise<void> {
  const { api, host, capacity, storage, logger } = dependencies;
  const { evaluationId } = input;
  const tell = async (update: Partial<EvaluationUpdate>): Promise<void> =>
    await api.putEvaluation(evaluationId, updateOf(input, update));
  const onReport = async ({ evaluations }: ReportRequest): Promise<void> => {
    const result = evaluations.at(-1);
    if (!result) return;
    const { scores, samples, seconds, resultsKey } = result;
    await api.hasty().putEvaluation(
      evaluationId,
      updateOf(input, {
        state: "succeeded",
        message: "done",
        scores,
        samples,
        seconds,
        resultsKey: resultsKey || null,
        details: await storedDetails(storage, resultsKey, logger),
      }),
    );
  };
  const epoch = await host.newestEpoch(evaluationId);
  const adopted = epoch === 0 ? null : await host.adopt(evaluationId, epoch, onReport);
  if (!adopted && epoch > 0) {
    const end = await host.endOfUnwatched(evaluationId, epoch);
    if (end.reason !== "worker-lost") return await conclude(end, tell);
  }
  const hosted = adopted ?? (await launch());
  if (typeof hosted === "string") return await tell({ state: "failed", message: hosted });
  const end = await host.watch(hosted, signals);
  if (end.reason === "worker-lost" && hosted.session.epoch < maxAttempts)
    throw new Error(`the worker was lost: ${end.message}`);
  await conclude(end, tell);

  async function launch(): Promise<HostedAttempt | string> {
    const claim = {
      id: evaluationId,
      priority: "normal",
      queue: "default",
      slots: 1,
      accelerator: null,
      gpus: 0,
      tell: () => undefined,
    } as const;
    const release = await capacity.acquire(claim, AbortSignal.any([signals.stop, signals.abandon]));
    return await capacity.holdFor(release, async () => {
      const config = await configOrReason(dependencies, input);
      if (typeof config === "string") return config;
      await tell({ state: "running", message: "a worker answers the validation split" });
      return await start(dependencies, evaluationId, epoch + 1, config, onReport);
    });
  }
}

async function start(
  { host }: RunAttemptDependencies,
  evaluationId: string,
  epoch: number,
  config: EvaluationWorkerConfig,
  onReport: (report: ReportRequest) => Promise<void>,
): Promise<HostedAttempt> {
  return await host.start(
    {
      id: evaluationId,
      epoch,
      configJson: JSON.stringify(config),
      ranks: 1,
      placement: { accelerator: null, gpusPerRank: 0, queue: "default", priority: "normal", avoidNodes: [] },
      logPrefix: `evaluations/${evaluationId}/attempts/${epoch}`,
    },
    onReport,
  );
}

/** A success was written with its scores when it was reported. */
async function conclude(end: AttemptEnd, tell: (update: Partial<EvaluationUpdate>) => Promise<void>): Promise<void> {
  if (end.kind !== "succeeded") await tell({ state: "failed", message: end.message });
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
): Promise<EvaluationWorkerConfig | string> {
  try {
    const { card, ...model } = await models.locate(spec.model);
    const manifest = await readManifest(storage, datasetId, datasetVersion);
    return {
      kind: "evaluate",
      evaluationId,
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
