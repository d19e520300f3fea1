import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { PeerLostError, type Collective, type RingThread } from "@drydock/engine";
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
import { EvaluationWorkerConfig, WorkerConfig, resultsKeyOf } from "@drydock/spec";
import { z } from "zod";
import { NodeFiles } from "../cache/node-files.ts";
import { Reporter } from "../control/reporter.ts";
import type { Outcome, WorkerClient } from "../control/worker-client.ts";
import { runEvaluation } from "../evaluation/run-evaluation.ts";
import { failureOf } from "../failure.ts";
import { modelKey } from "../publish/publish-model.ts";
import { closeRing, openRing } from "../ranks/close-ring.ts";
import { ownNewsOf } from "../ranks/own-news.ts";
import { WaitTeller, WatchedCollective } from "../ranks/watched-collective.ts";
import { watchedStages, type OpenStages } from "../ranks/watched-pipeline.ts";
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
  readonly files: NodeFiles;
  readonly diskRetry: RetryPolicy;
  readonly control: RunControl;
  readonly reporter: Reporter;
  /** The other ranks; null when there are none. */
  readonly collective: Collective | null;
  readonly openStages: OpenStages | null;
}

/** What a rank learns when all have joined. */
interface Joined {
  readonly config: RankConfig;
  readonly peers: readonly string[];
}

/** What a rank has before it knows its work. */
interface Start {
  readonly settings: RankSettings;
  readonly client: WorkerClient;
  readonly engine: EngineDoors;
  readonly control: RunControl;
  readonly logger: Logger;
  /** Waits for the next rank; null when this one is alone. */
  readonly ringThread: RingThread | null;
}

/** How often a rank asks again for the ranks that have not joined, besides the time the controller takes to answer. */
const askAgainMs = 200;

/**
 * One rank of an attempt, from join to outcome. It trains on while the controller is away, rides out storage that is
 * away for the budget, stops after a checkpoint when it is told to, and tells the controller how it ended.
 *
 * @returns the exit code of the process
 */
export async function runRank(settings: RankSettings, client: WorkerClient, engine: EngineDoors): Promise<number> {
  const logger = createLogger("worker").child({ runId: settings.runId, attempt: settings.epoch, rank: settings.rank });
  const control = new RunControl();
  const forgetSignals = stopOnSignals(control, (message) => logger.info(message));
  const ringThread = await openRing(settings);
  const start: Start = { settings, client, engine, control, logger, ringThread };
  try {
    const joined = await joinAttempt(start);
    return typeof joined === "number" ? joined : await work(start, joined);
  } finally {
    forgetSignals();
    await ringThread?.close();
  }
}

async function work(start: Start, { config, peers }: Joined): Promise<number> {
  const { settings, client, engine, control, logger, ringThread } = start;
  const reporter = new Reporter({
    client,
    attempt: settings.epoch,
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
  const outcome = await outcomeOf(config, logger, control, async () => {
    const storage = new RetryingStorage(openStorage(settings.storageUrl), diskRetry);
    const files = new NodeFiles(storage, settings.cache, diskRetry);
    const ring = ringThread && (await closeRing(ringThread, settings, peers, control.signal));
    const teller = new WaitTeller((waits) => reporter.waits(waits));
    const collective = ring && new WatchedCollective(ring, teller);
    const openStages = collective ? watchedStages(settings, collective, teller) : null;
    return { settings, engine, storage, files, diskRetry, control, reporter, collective, openStages };
  });
  logger.info(outcome, "rank ends");
  const wasTold = await reporter.close(outcome);
  if (!wasTold) logger.warn("the controller was not told how the rank ended");
  return outcome.exitCode;
}

/** The config to work on, once all ranks have joined; or an exit code, when there is nothing to do. */
async function joinAttempt({ settings, client, control, logger, ringThread }: Start): Promise<Joined | number> {
  const policy: RetryPolicy = {
    budgetMs: settings.controllerBudgetMs,
    maximumDelayMs: 5_000,
    signal: control.signal,
    onRetry: (notice) =>
      logger.warn({ tries: notice.tries, error: messageOf(notice.error) }, "controller does not answer"),
  };
  try {
    for (;;) {
      const answer = await retryUnavailable("join", policy, async () => await client.join(ringThread?.address ?? ""));
      if (control.exitCode !== null) return control.exitCode;
      if (answer.directive === "abort") return exitCodes.interrupted;
      if (answer.directive === "checkpoint-and-stop") return exitCodes.terminated;
      if (answer.missingRanks.length === 0) return { config: parseConfig(answer.configJson), peers: answer.peers };
      await delay(askAgainMs, undefined, { signal: control.signal });
    }
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

async function outcomeOf(
  config: RankConfig,
  logger: Logger,
  control: RunControl,
  open: () => Promise<Rank>,
): Promise<Outcome> {
  let rank: Rank | null = null;
  try {
    rank = await open();
    const outcome = config.kind === "train" ? await trainOutcome(rank, config) : await evaluationOutcome(rank, config);
    await rank.collective?.close();
    return outcome;
  } catch (error) {
    if (rank === null && control.exitCode !== null)
      return {
        exitCode: control.exitCode,
        reason: "cancel-requested",
        message: "stopped before it began",
        modelKey: "",
      };
    const failure = failureOf(error);
    if (failure.isExpected) logger.error(failure.message);
    else logger.error({ err: error }, "unexpected error");
    // The others are told why; who was lost already is not told again.
    if (!(error instanceof PeerLostError)) await rank?.collective?.close(failure.message);
    return { exitCode: failure.exitCode, reason: failure.reason, message: failure.message, modelKey: "" };
  } finally {
    await rank?.files.close();
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

/** The config with the base model's folder on this machine, fetched when storage keeps it. */
async function withLocalModel<Config extends RankConfig>(files: NodeFiles, config: Config): Promise<Config> {
  if (config.modelKey !== undefined) return { ...config, modelDirectory: await files.model(config.modelKey) };
  if (config.modelDirectory === "")
    throw new InvalidError("invalid_config", "the controller names neither a folder nor a key of the base model");
  return config;
}

async function trainOutcome(
  { settings, engine, storage, files, diskRetry, control, reporter, collective, openStages }: Rank,
  config: WorkerConfig,
): Promise<Outcome> {
  const key = modelKey(config.modelName, config.modelVersion);
  if (settings.rank === 0) await forgetOlderAttempts(settings);
  const scratch = scratchOf(settings.scratchDirectory, settings.epoch);
  const outcome = await runTraining({
    config: await withLocalModel(files, config),
    folder: { storage, prefix: `runs/${config.runId}/`, runId: config.runId, epoch: settings.epoch },
    modelKey: key,
    records: await files.records(config.recordsKey, config.recordsSha256),
    pathOf: async (image) => await files.pathOf(image),
    engine,
    // Ranks of one machine share the folder.
    scratchDirectory: settings.rank === 0 ? scratch : join(scratch, `rank-${settings.rank}`),
    diskRetry,
    listener: settings.rank === 0 ? reporter : ownNewsOf(reporter),
    control,
    collective,
    ...(openStages ? { openStages } : {}),
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
  { engine, storage, files, control, reporter }: Rank,
  config: EvaluationWorkerConfig,
): Promise<Outcome> {
  const local = await withLocalModel(files, config);
  const adapterDirectory =
    config.adapterKey === undefined ? config.adapterDirectory : await files.model(config.adapterKey);
  const result = await runEvaluation({
    config: { ...local, adapterDirectory },
    storage,
    resultsKey: resultsKeyOf(config.evaluationId, config.shard),
    records: await files.records(config.recordsKey, config.recordsSha256),
    pathOf: async (image) => await files.pathOf(image),
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
