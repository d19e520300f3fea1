import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { NativeConnection, Runtime, Worker } from "@temporalio/worker";
import { checkStorage, createLogger, isDrydockError, messageOf, openStorage, RetryingStorage } from "@drydock/kit";
import { temporalNames } from "@drydock/spec";
import { createDatasetActivities } from "./activities/dataset-activities.ts";
import { createEvaluationActivities } from "./activities/evaluation-activities.ts";
import { createPipelineActivities } from "./activities/pipeline-activities.ts";
import { createRunActivities } from "./activities/run-activities.ts";
import { createSweepActivities } from "./activities/sweep-activities.ts";
import { AttemptFiles } from "./attempts/attempt-files.ts";
import { AttemptObjects } from "./attempts/attempt-objects.ts";
import { AttemptHost } from "./attempts/attempt-host.ts";
import { AttemptRegistry } from "./attempts/attempt-registry.ts";
import { Capacity } from "./attempts/capacity.ts";
import { ClusterCapacity } from "./attempts/cluster-capacity.ts";
import { serveWorkers } from "./attempts/worker-server.ts";
import { LocalBackend } from "./backend/local-backend.ts";
import { accountForWorkers } from "./account-for-workers.ts";
import { ClusterReporter } from "./cluster-report/cluster-reporter.ts";
import { followCluster } from "./cluster-report/follow-cluster.ts";
import { LocalFacts } from "./cluster-report/local-facts.ts";
import { stopWorkers, type ControllerParts } from "./close-controller.ts";
import { readConfig, type ControllerConfig } from "./config.ts";
import { openKubernetes, type KubernetesConfig, type OpenCluster } from "./kubernetes/open-kubernetes.ts";
import { InternalApi } from "./internal-api.ts";
import { ModelLocator } from "./models/model-locator.ts";
import { RegistryApi } from "./registry-api.ts";
import { PipelineApi } from "./pipeline-api.ts";
import { SweepApi } from "./sweep-api.ts";
import { temporalLogger } from "./temporal-logger.ts";
import { workflowCode } from "./workflow-code.ts";

const workerProgram = fileURLToPath(new URL("../../worker/src/main.ts", import.meta.url));
/** Storage that is away is waited for so long within one call; after that the activity is tried again. */
const storageBudgetMs = 120_000;
const connectBudgetMs = 120_000;
/** Closing is long done by then. */
const closingMs = 10_000;

const logger = createLogger("controller");
/** Runs the controller until it is asked to end; ends the process. */
export async function serve(ending: AbortController): Promise<never> {
  try {
    await run(readConfig(process.env), ending);
  } catch (error) {
    if (ending.signal.aborted) return await endAsAsked(error);
    if (isDrydockError(error)) process.stderr.write(`drydock controller: ${error.message}\n`);
    else logger.fatal({ err: error }, "controller ends");
    process.exit(1);
  }
  process.exit(0);
}

/**
 * A controller that was asked to end while it started, such as one that waits for another to let go of the lead: what it was doing
 * fails, and closing ends the process.
 */
async function endAsAsked(error: unknown): Promise<never> {
  logger.info({ error: messageOf(error) }, "the controller was asked to end while it started");
  await delay(closingMs);
  process.exit(0);
}

async function run(config: ControllerConfig, ending: AbortController): Promise<void> {
  let worker: Worker | null = null;
  const cluster = config.kubernetes === null ? null : await openCluster(config, config.kubernetes);
  const slots = new Capacity(cluster?.usesKueue === true ? Number.MAX_SAFE_INTEGER : config.slots);
  const pools = cluster !== null && !cluster.usesKueue ? new ClusterCapacity(config.kubernetes?.queueQuotas) : null;
  const parts: ControllerParts = {
    // Kueue decides who runs; without it we do.
    capacity: pools ?? slots,
    registry: new AttemptRegistry(),
    backend: cluster?.backend ?? localBackend(config),
    logger,
  };
  // Before anything that takes time: workers of an earlier controller may be there to be stopped.
  const closing = closeWhenAsked(ending, config, parts, cluster, () => worker);
  const storageIsAway = await checkStorage(openStorage(config.storageUrl));
  if (storageIsAway) logger.warn({ error: storageIsAway.message }, "storage does not answer yet");
  await cluster?.election.lead(closing);
  await cluster?.backend.connect();
  const followed =
    cluster === null ? null : await followCluster(cluster, config.kubernetes?.namespace ?? "", pools, logger);
  const api = new InternalApi(config.apiUrl, config.internalKey);
  await accountForWorkers(parts, api);
  const { server, port } = await serveWorkers(parts.registry, config.port, logger, config.host);
  const url = config.advertisedUrl ?? `http://${config.host}:${port}`;
  Runtime.install({ logger: temporalLogger(logger), shutdownSignals: [] });
  const connection = await connect(config.temporalAddress);
  worker = await Worker.create({
    connection,
    namespace: config.temporalNamespace,
    taskQueue: temporalNames.taskQueue,
    ...(await workflowCode()),
    activities: await activitiesOf(config, parts, api, url),
    maxConcurrentActivityTaskExecutions: 5e3,
    maxConcurrentLocalActivityExecutions: 50,
    maxCachedWorkflows: 300,
    maxHeartbeatThrottleInterval: "1 second",
    defaultHeartbeatThrottleInterval: "1 second",
    shutdownGraceTime: "1 second",
    shutdownForceTime: "10 seconds",
  });
  const reporter = new ClusterReporter(followed?.facts ?? new LocalFacts(slots), api, logger);
  reporter.start();
  process.stdout.write(`${JSON.stringify({ ready: true, url })}\n`);
  try {
    await worker.run();
    reporter.stop();
    await followed?.close();
    server.close();
    server.closeAllConnections();
    await connection.close();
    await cluster?.backend.close();
  } finally {
    // Whatever failed: the next controller need not wait for the lease to run out.
    await cluster?.election.release();
  }
}

/** The cluster, with a controller that ends at once when another one may lead: two must never act. */
async function openCluster(config: ControllerConfig, kubernetes: KubernetesConfig): Promise<OpenCluster> {
  const storage = new RetryingStorage(openStorage(config.storageUrl), { budgetMs: storageBudgetMs });
  return await openKubernetes(kubernetes, process.env, { storage, logger, onLost: () => process.exit(1) });
}

/**
 * From now on a request to end stops the workers of this computer, then the Temporal worker when there is one already. Pods
 * of a cluster outlive their controller: the next one adopts them. The signal that comes back is aborted when closing begins.
 */
function closeWhenAsked(
  ending: AbortController,
  config: ControllerConfig,
  parts: ControllerParts,
  cluster: OpenCluster | null,
  temporalWorker: () => Worker | null,
): AbortSignal {
  const begun = new AbortController();
  const close = (): void => {
    if (begun.signal.aborted) return;
    begun.abort(new Error("closing"));
    const stopped = cluster === null ? stopWorkers(parts) : Promise.resolve(parts.capacity.close());
    void stopped
      .catch((error: unknown) => logger.error({ err: error }, "workers cannot be stopped"))
      .then(async () => {
        // Attempts that ended just now still answer the workflow; nobody is admitted any more.
        await delay(500);
        const worker = temporalWorker();
        if (worker?.getState() === "RUNNING") return worker.shutdown();
        await cluster?.election.release();
        process.exit(0);
      });
  };
  const asked = (): void => ending.abort();
  ending.signal.addEventListener("abort", close);
  if (ending.signal.aborted) close();
  if (config.endsWithParent) process.stdin.once("end", asked).once("error", asked).resume();
  return begun.signal;
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
    files:
      config.kubernetes === null
        ? new AttemptFiles(join(stateDirectory, "attempts"))
        : new AttemptObjects(storage, config.internalKey),
    scratchDirectory: join(stateDirectory, "scratch"),
  });
  const modelRegistry = new RegistryApi(api);
  const models = new ModelLocator({
    storage,
    versionOf: async (name, alias) => (await modelRegistry.model(name, alias)).version,
    modelsDirectory: config.modelsDirectory,
    cacheDirectory: join(stateDirectory, "models"),
    workersAreElsewhere: config.workersAreElsewhere,
  });
  const dependencies = { api, host, capacity, models, storage, threads, logger };
  return {
    ...createRunActivities(dependencies),
    ...createEvaluationActivities(dependencies),
    ...createSweepActivities(new SweepApi(api)),
    ...createPipelineActivities({ pipelines: new PipelineApi(api), registry: new RegistryApi(api), storage }),
    ...createDatasetActivities({ api, storage, logger, workDirectory: join(stateDirectory, "uploads") }),
  };
}
