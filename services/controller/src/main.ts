import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { NativeConnection, Runtime, Worker } from "@temporalio/worker";
import { createLogger, isDrydockError, messageOf, openStorage, RetryingStorage } from "@drydock/kit";
import { temporalNames } from "@drydock/spec";
import { createDatasetActivities } from "./activities/dataset-activities.ts";
import { createEvaluationActivities } from "./activities/evaluation-activities.ts";
import { createRunActivities } from "./activities/run-activities.ts";
import { AttemptFiles } from "./attempts/attempt-files.ts";
import { AttemptHost } from "./attempts/attempt-host.ts";
import { AttemptRegistry } from "./attempts/attempt-registry.ts";
import { Capacity } from "./attempts/capacity.ts";
import { serveWorkers } from "./attempts/worker-server.ts";
import { LocalBackend } from "./backend/local-backend.ts";
import { accountForWorkers } from "./account-for-workers.ts";
import { stopWorkers, type ControllerParts } from "./close-controller.ts";
import { readConfig, type ControllerConfig } from "./config.ts";
import { InternalApi } from "./internal-api.ts";
import { ModelLocator } from "./models/model-locator.ts";
import { temporalLogger } from "./temporal-logger.ts";

const workflowsPath = fileURLToPath(import.meta.resolve("@drydock/workflows"));
const workerProgram = fileURLToPath(new URL("../../worker/src/main.ts", import.meta.url));
/** Storage that is away is waited for so long within one call; after that the activity is tried again. */
const storageBudgetMs = 120_000;
const connectBudgetMs = 120_000;

const logger = createLogger("controller");
try {
  await run(readConfig(process.env));
} catch (error) {
  if (isDrydockError(error)) process.stderr.write(`drydock controller: ${error.message}\n`);
  else logger.fatal({ err: error }, "controller ends");
  process.exit(1);
}
process.exit(0);

async function run(config: ControllerConfig): Promise<void> {
  const parts: ControllerParts = {
    capacity: new Capacity(config.slots),
    registry: new AttemptRegistry(),
    backend: localBackend(config),
    logger,
  };
  // Before anything that takes time: workers of an earlier controller may be there to be stopped.
  let worker: Worker | null = null;
  closeOnSignals(config, parts, () => worker);
  const api = new InternalApi(config.apiUrl, config.internalKey);
  await accountForWorkers(parts, api);
  const { server, port } = await serveWorkers(parts.registry, config.port, logger);
  Runtime.install({ logger: temporalLogger(logger), shutdownSignals: [] });
  const connection = await connect(config.temporalAddress);
  worker = await Worker.create({
    connection,
    namespace: config.temporalNamespace,
    taskQueue: temporalNames.taskQueue,
    workflowsPath,
    activities: await activitiesOf(config, parts, api, `http://127.0.0.1:${port}`),
    maxConcurrentActivityTaskExecutions: 5e3,
    maxConcurrentLocalActivityExecutions: 50,
    maxCachedWorkflows: 300,
    maxHeartbeatThrottleInterval: "1 second",
    defaultHeartbeatThrottleInterval: "1 second",
    shutdownGraceTime: "1 second",
    shutdownForceTime: "10 seconds",
  });
  process.stdout.write(`${JSON.stringify({ ready: true, url: `http://127.0.0.1:${port}` })}\n`);
  await worker.run();
  server.close();
  server.closeAllConnections();
  await connection.close();
}

/** From now on a request to end stops the workers, then the Temporal worker when there is one already. */
function closeOnSignals(config: ControllerConfig, parts: ControllerParts, temporalWorker: () => Worker | null): void {
  let closing: Promise<void> | null = null;
  const close = (): void => {
    closing ??= stopWorkers(parts)
      .catch((error: unknown) => logger.error({ err: error }, "workers cannot be stopped"))
      .then(async () => {
        // Attempts that ended just now still answer the workflow; nobody is admitted any more.
        await delay(500);
        const worker = temporalWorker();
        if (worker?.getState() === "RUNNING") worker.shutdown();
        else process.exit(0);
      });
  };
  process.once("SIGTERM", close);
  process.once("SIGINT", close);
  if (config.endsWithParent) process.stdin.once("end", close).once("error", close).resume();
}

/** Waits for a Temporal server that is still starting. */
async function connect(address: string): Promise<NativeConnection> {
  const startedMs = performance.now();
  for (;;) {
    try {
      return await NativeConnection.connect({ address });
    } catch (error) {
      if (performance.now() - startedMs > connectBudgetMs) throw error;
      logger.warn({ error: messageOf(error) }, "the Temporal server does not answer yet");
      await delay(500);
    }
  }
}

function localBackend({ stateDirectory, storageUrl }: ControllerConfig): LocalBackend {
  return new LocalBackend({
    command: [process.execPath, workerProgram],
    directory: join(stateDirectory, "pods"),
    cacheDirectory: join(stateDirectory, "cache"),
    storage: openStorage(storageUrl),
    logger,
  });
}

async function activitiesOf(
  config: ControllerConfig,
  { capacity, registry, backend }: ControllerParts,
  api: InternalApi,
  controllerUrl: string,
) {
  const { stateDirectory, storageUrl, memoryLimitBytes, patience, threads } = config;
  await mkdir(stateDirectory, { recursive: true });
  const storage = new RetryingStorage(openStorage(storageUrl), { budgetMs: storageBudgetMs });
  const host = new AttemptHost({
    backend,
    registry,
    storageUrl,
    controllerUrl,
    memoryLimitBytes,
    patience,
    logger,
    files: new AttemptFiles(join(stateDirectory, "attempts")),
    scratchDirectory: join(stateDirectory, "scratch"),
  });
  const models = new ModelLocator({
    storage,
    modelsDirectory: config.modelsDirectory,
    cacheDirectory: join(stateDirectory, "models"),
    workersAreElsewhere: config.workersAreElsewhere,
  });
  const dependencies = { api, host, capacity, models, storage, threads, logger };
  return {
    ...createRunActivities(dependencies),
    ...createEvaluationActivities(dependencies),
    ...createDatasetActivities({ api, storage, logger, workDirectory: join(stateDirectory, "uploads") }),
  };
}
