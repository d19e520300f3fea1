import { rm } from "node:fs/promises";
import { join } from "node:path";
import {
  InvalidError,
  RetryingStorage,
  createLogger,
  describeRetry,
  exitCodes,
  messageOf,
  openStorage,
  retryUnavailable,
  type Logger,
  type ObjectStorage,
  type RetryPolicy,
} from "@drydock/kit";
import { EvaluationWorkerConfig, WorkerConfig } from "@drydock/spec";
import { z } from "zod";
import { Reporter } from "../control/reporter.ts";
import type { Outcome, WorkerClient } from "../control/worker-client.ts";
import { runEvaluation } from "../evaluation/run-evaluation.ts";
import { failureOf } from "../failure.ts";
import { modelKey } from "../publish/publish-model.ts";
import { ImageCache } from "../rows/image-cache.ts";
import { readRecords } from "../rows/read-records.ts";
import { stopOnSignals } from "../signals.ts";
import type { EngineDoors } from "../training/engine-doors.ts";
import { RunControl } from "../training/run-control.ts";
import { runTraining } from "../training/run-training.ts";
import type { RankSettings } from "./rank-environment.ts";

const RankConfig = z.discriminatedUnion("kind", [WorkerConfig, EvaluationWorkerConfig]);
type RankConfig = z.infer<typeof RankConfig>;

/** Everything a rank works with. */
interface Rank {
  readonly settings: RankSettings;
  readonly engine: EngineDoors;
  readonly storage: ObjectStorage;
  readonly diskRetry: RetryPolicy;
  readonly control: RunControl;
  readonly reporter: Reporter;
}

/**
 * One rank of an attempt, from join to outcome. It trains on while the controller is away, rides out storage that is
 * away for the budget, stops after a checkpoint when it is told to, and tells the controller how it ended.
 *
 * @returns the exit code of the process
 */
export async function runRank(settings: RankSettings, client: WorkerClient, engine: EngineDoors): Promise<number> {
  if (settings.rank > 0)
    throw new InvalidError(
      "one_rank_only",
      `this worker trains on one rank, but was started as rank ${settings.rank}: plan the run for one GPU`,
    );
  const logger = createLogger("worker").child({ runId: settings.runId, attempt: settings.epoch, rank: settings.rank });
  const control = new RunControl();
  const forgetSignals = stopOnSignals(control, (message) => logger.info(message));
  try {
    const config = await joinAttempt(settings, client, control, logger);
    return typeof config === "number" ? config : await work(settings, client, engine, control, config, logger);
  } finally {
    forgetSignals();
  }
}

async function work(
  settings: RankSettings,
  client: WorkerClient,
  engine: EngineDoors,
  control: RunControl,
  config: RankConfig,
  logger: Logger,
): Promise<number> {
  const reporter = new Reporter({
    client,
    control,
    logger,
    lastReportBudgetMs: settings.controllerBudgetMs,
    exitCodes: { stop: exitCodes.terminated, abort: exitCodes.interrupted },
  });
  reporter.start();
  const diskRetry: RetryPolicy = {
    budgetMs: settings.storageBudgetMs,
    onRetry: (notice) => {
      logger.warn(
        { what: notice.what, tries: notice.tries, error: messageOf(notice.error) },
        "storage does not answer",
      );
      if (notice.tries === 1) reporter.log("warn", describeRetry(notice));
    },
  };
  const outcome = await outcomeOf(config, logger, () => {
    const storage = new RetryingStorage(openStorage(settings.storageUrl), diskRetry);
    return { settings, engine, storage, diskRetry, control, reporter };
  });
  logger.info(outcome, "rank ends");
  const wasTold = await reporter.close(outcome);
  if (!wasTold) logger.warn("the controller was not told how the rank ended");
  return outcome.exitCode;
}

/** The config to work on; or an exit code, when there is nothing to do. */
async function joinAttempt(
  settings: RankSettings,
  client: WorkerClient,
  control: RunControl,
  logger: Logger,
): Promise<RankConfig | number> {
  const policy: RetryPolicy = {
    budgetMs: settings.controllerBudgetMs,
    maximumDelayMs: 5_000,
    signal: control.signal,
    onRetry: (notice) =>
      logger.warn({ tries: notice.tries, error: messageOf(notice.error) }, "controller does not answer"),
  };
  try {
    const answer = await retryUnavailable("join", policy, async () => await client.join());
    if (control.exitCode !== null) return control.exitCode;
    if (answer.directive === "abort") return exitCodes.interrupted;
    if (answer.directive === "checkpoint-and-stop") return exitCodes.terminated;
    return parseConfig(answer.configJson);
  } catch (error) {
    if (control.exitCode !== null) return control.exitCode;
    throw error;
  }
}

function parseConfig(text: string): RankConfig {
  const parsed = RankConfig.safeParse(JSON.parse(text));
  if (parsed.success) return parsed.data;
  const fields = parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`).join("; ");
  throw new InvalidError(
    "invalid_config",
    `the controller sent a config that this worker does not understand (${fields}): are both of the same version?`,
  );
}

async function outcomeOf(config: RankConfig, logger: Logger, open: () => Rank): Promise<Outcome> {
  try {
    const rank = open();
    return config.kind === "train" ? await trainOutcome(rank, config) : await evaluationOutcome(rank, config);
  } catch (error) {
    const failure = failureOf(error);
    if (failure.isExpected) logger.error(failure.message);
    else logger.error({ err: error }, "unexpected error");
    return { exitCode: failure.exitCode, reason: failure.reason, message: failure.message, modelKey: "" };
  }
}

/** Takes away what attempts before ours left on the disk: halves of checkpoints, as large as the model. */
async function forgetOlderAttempts({ scratchDirectory, epoch }: RankSettings): Promise<void> {
  for (let older = epoch - 1; older > 0; older--)
    await rm(scratchOf(scratchDirectory, older), { recursive: true, force: true });
}

function scratchOf(scratchDirectory: string, epoch: number): string {
  return join(scratchDirectory, `attempt-${epoch}`);
}

async function trainOutcome(
  { settings, engine, storage, diskRetry, control, reporter }: Rank,
  config: WorkerConfig,
): Promise<Outcome> {
  const images = new ImageCache(storage, join(settings.scratchDirectory, "images"), diskRetry);
  const key = modelKey(config.modelName, config.modelVersion);
  await forgetOlderAttempts(settings);
  const outcome = await runTraining({
    config,
    folder: { storage, prefix: `runs/${config.runId}/`, runId: config.runId, epoch: settings.epoch },
    modelKey: key,
    records: await readRecords(storage, config.recordsKey),
    pathOf: async (image) => await images.pathOf(image),
    engine,
    scratchDirectory: scratchOf(settings.scratchDirectory, settings.epoch),
    diskRetry,
    listener: reporter,
    control,
  });
  const { step } = outcome.state;
  switch (outcome.kind) {
    case "finished":
      return { exitCode: exitCodes.done, reason: "completed", message: `finished after ${step} steps`, modelKey: key };
    case "stopped":
      return {
        exitCode: control.exitCode ?? exitCodes.terminated,
        reason: "paused-after-checkpoint",
        message: `stopped after step ${step}, which is saved`,
        modelKey: "",
      };
    case "aborted":
      return {
        exitCode: control.exitCode ?? exitCodes.interrupted,
        reason: "cancel-requested",
        message: `aborted after step ${step}`,
        modelKey: "",
      };
  }
}

async function evaluationOutcome(
  { settings, engine, storage, diskRetry, control, reporter }: Rank,
  config: EvaluationWorkerConfig,
): Promise<Outcome> {
  const images = new ImageCache(storage, join(settings.scratchDirectory, "images"), diskRetry);
  const result = await runEvaluation({
    config,
    storage,
    resultsKey: `evaluations/${config.evaluationId}/results.jsonl`,
    records: await readRecords(storage, config.recordsKey),
    pathOf: async (image) => await images.pathOf(image),
    engine,
    listener: reporter,
    signal: control.signal,
  });
  if (result === null)
    return {
      exitCode: control.exitCode ?? exitCodes.terminated,
      reason: "cancel-requested",
      message: "stopped before the evaluation was finished",
      modelKey: "",
    };
  return {
    exitCode: exitCodes.done,
    reason: "completed",
    message: `evaluated ${result.samples} samples`,
    modelKey: "",
  };
}
