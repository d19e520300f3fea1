import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  ConflictError,
  FolderStorage,
  RetryingStorage,
  createLogger,
  describeRetry,
  digestOf,
  exitCodes,
  type RetryPolicy,
} from "@drydock/kit";
import type { DataRecord, WorkerConfig } from "@drydock/spec";
import { checkpointSteps, type RunFolder } from "../checkpoint/run-folder.ts";
import { newestEpoch } from "../checkpoint/fence.ts";
import { localPathOf } from "../rows/read-messages.ts";
import { stopOnSignals } from "../signals.ts";
import type { EngineDoors } from "../training/engine-doors.ts";
import { RunControl } from "../training/run-control.ts";
import { runTraining } from "../training/run-training.ts";
import { StandaloneListener } from "./standalone-listener.ts";
import type { StandaloneConfig } from "./standalone-config.ts";
import { StepsFile } from "./steps-file.ts";

export interface StandaloneTraining {
  readonly config: StandaloneConfig;
  /** The keys of their pictures are paths on this machine. */
  readonly records: readonly DataRecord[];
  readonly outDirectory: string;
  /** PEFT adapter to start from; undefined = a fresh one. */
  readonly adapterDirectory?: string | undefined;
  /** Go on from the newest checkpoint in the folder, instead of refusing one that has any. */
  readonly resume: boolean;
}

/** Rows of a micro-batch when the config does not say; no planner looks at the memory here. */
const mostRowsAtOnce = 16;

/** How long a full disk is waited for. */
const diskBudgetMs = 60_000;

/**
 * Trains without a control plane. The folder gets `checkpoints/step-…/` (design §8), `evaluations/`, `model/` and
 * `steps.jsonl`.
 *
 * @returns the exit code
 */
export async function trainAlone(
  { config, records, outDirectory, adapterDirectory, resume }: StandaloneTraining,
  engine: EngineDoors,
): Promise<number> {
  const logger = createLogger("worker");
  const control = new RunControl();
  const forgetSignals = stopOnSignals(control, (message) => logger.info(message));
  await mkdir(outDirectory, { recursive: true });
  const diskRetry: RetryPolicy = { budgetMs: diskBudgetMs, onRetry: (notice) => logger.warn(describeRetry(notice)) };
  const storage = new RetryingStorage(new FolderStorage(outDirectory), diskRetry);
  const folder = await nextAttempt({ storage, prefix: "", runId: config.spec.name, epoch: 1 }, resume);
  const steps = new StepsFile(join(outDirectory, "steps.jsonl"));
  const listener = new StandaloneListener(logger, steps);
  const outcome = await runTraining({
    config: workerConfigOf(config, records, adapterDirectory),
    folder,
    modelKey: "model",
    records,
    pathOf: localPathOf,
    engine,
    scratchDirectory: join(outDirectory, ".scratch"),
    diskRetry,
    listener,
    control,
    collective: null,
  }).finally(forgetSignals);
  if (outcome.kind === "finished") return exitCodes.done;
  return control.exitCode ?? exitCodes.interrupted;
}

/** @throws ConflictError when the folder holds a run and `resume` was not asked for */
async function nextAttempt(folder: RunFolder, resume: boolean): Promise<RunFolder> {
  const [newestStep] = await checkpointSteps(folder);
  if (newestStep !== undefined && !resume) {
    throw new ConflictError(
      "folder_in_use",
      `the folder holds a run already, saved up to step ${newestStep}: add --resume to go on with it, or choose another --out`,
    );
  }
  return { ...folder, epoch: (await newestEpoch(folder)) + 1 };
}

/** What the control plane would have sent. Steps: `maxSteps`, or as many as the epochs take, the last batch of all partial. */
function workerConfigOf(
  { spec, modelDirectory }: StandaloneConfig,
  records: readonly DataRecord[],
  adapterDirectory?: string,
): WorkerConfig {
  const { globalBatchSize, epochs, maxSteps, microBatchSize = mostRowsAtOnce } = spec.training;
  const rows = records.filter(({ split }) => split === "train").length;
  return {
    kind: "train",
    runId: spec.name,
    spec,
    layout: {
      gpus: 1,
      pods: 1,
      gpusPerPod: 1,
      dataParallel: 1,
      pipelineStages: 1,
      sharding: "none",
      microBatchSize: Math.min(microBatchSize, globalBatchSize),
      accumulationSteps: Math.ceil(globalBatchSize / microBatchSize),
      recomputeActivations: false,
    },
    totalSteps: maxSteps ?? Math.max(1, Math.ceil((rows * epochs) / globalBatchSize)),
    modelDirectory,
    ...(adapterDirectory === undefined ? {} : { adapterDirectory }),
    recordsKey: "",
    systemPrompt: spec.systemPrompt ?? "",
    planDigest: digestOf(spec),
    datasetDigest: digestOf(records.map(({ rowId }) => rowId)),
    modelName: spec.name,
    modelVersion: 1,
  };
}
