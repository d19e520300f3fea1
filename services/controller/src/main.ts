import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { NativeConnection, Runtime, Worker } from "@temporalio/worker";
import { createLogger, isDrydockError, messageOf, openStorage } from "@drydock/kit";
import { temporalNames } from "@drydock/spec";
import { createDatasetActivities } from "./activities/dataset-activities.ts";
import { createEvaluationActivities } from "./activities/evaluation-activities.ts";
import { createRunActivities, type RunDependencies } from "./activities/run-activities.ts";
import { AttemptRegistry } from "./attempts/attempt-registry.ts";
import { Capacity } from "./attempts/capacity.ts";
import { serveWorkers } from "./attempts/worker-server.ts";
import { LocalBackend } from "./backend/local-backend.ts";
import { readConfig, type ControllerConfig } from "./config.ts";
import { InternalApi } from "./internal-api.ts";
import { ModelLocator } from "./models/model-locator.ts";

const logger = createLogger("controller");

async function main(): Promise<void> {
  const config = readConfig(process.env);
  const registry = new AttemptRegistry();
  const { server, port } = await serveWorkers(registry, config.port, logger);
  Runtime.install({ logger: temporalLogger(), shutdownSignals: [] });
  const connection = await connect(config);
  const backend = localBackend(config);
  const dependencies = dependenciesOf(config, registry, backend, `http://127.0.0.1:${port}`);
  const worker = await Worker.create({
    connection,
    namespace: config.temporalNamespace,
    taskQueue: temporalNames.taskQueue,
    workflowsPath: fileURLToPath(import.meta.resolve("@drydock/workflows")),
    activities: { ...createRunActivities(dependencies), ...createEvaluationActivities(dependencies), ...createDatasetActivities(dependencies) },
    maxConcurrentActivityTaskExecutions: 200,
    maxCachedWorkflows: 200,
    maxHeartbeatThrottleInterval: "1 second",
    defaultHeartbeatThrottleInterval: "1 second",
    // Workers write a checkpoint first; their attempts end as "stopped" and go on at the next start.
    shutdownGraceTime: "60 seconds",
    shutdownForceTime: "70 seconds",
  });
  const stop = (): void => {
    if (worker.getState() !== "RUNNING") return;
    worker.shutdown();
    backend.stopAll();
  };
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  if (process.env["DRYDOCK_PARENT_PIPE"] === "1") process.stdin.on("end", stop).resume();
  process.stdout.write(`${JSON.stringify({ ready: true, url: `http://127.0.0.1:${port}` })}\n`);
  await worker.run();
  server.close();
  server.closeAllConnections();
  await connection.close();
}

/** Waits for a Temporal server that is still starting. */
async function connect({ temporalAddress }: ControllerConfig): Promise<NativeConnection> {
  for (let tries = 1; ; tries++) {
    try {
      return await NativeConnection.connect({ address: temporalAddress });
    } catch (error) {
      if (tries >= 60) throw error;
      logger.warn({ error: messageOf(error) }, "the Temporal server does not answer yet");
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

function localBackend(config: ControllerConfig): LocalBackend {
  const worker = fileURLToPath(new URL("../../worker/src/main.ts", import.meta.url));
  return new LocalBackend({ command: [process.execPath, worker], directory: join(config.stateDirectory, "pods"), storage: openStorage(config.storageUrl), logger });
}

function dependenciesOf(config: ControllerConfig, registry: AttemptRegistry, backend: LocalBackend, controllerUrl: string): RunDependencies {
  const storage = openStorage(config.storageUrl);
  return {
    api: new InternalApi(config.apiUrl, config.internalKey),
    backend,
    capacity: new Capacity(config.slots),
    registry,
    models: new ModelLocator(storage, config.modelsDirectory, join(config.stateDirectory, "models")),
    storage,
    storageUrl: config.storageUrl,
    controllerUrl,
    stateDirectory: config.stateDirectory,
    threads: config.threads,
    memoryLimitBytes: config.memoryLimitBytes,
    reportDeadlineMs: config.reportDeadlineMs,
    logger,
  };
}

/** Temporal's own lines in our log, warnings and worse. */
function temporalLogger() {
  const write = (level: "warn" | "error") => (message: string, meta?: object) => logger[level]({ ...meta }, message);
  const nothing = (): void => undefined;
  return {
    log: (level: string, message: string, meta?: object) => (level === "ERROR" ? write("error") : level === "WARN" ? write("warn") : nothing)(message, meta),
    trace: nothing,
    debug: nothing,
    info: nothing,
    warn: write("warn"),
    error: write("error"),
  };
}

try {
  await main();
} catch (error) {
  if (isDrydockError(error)) process.stderr.write(`drydock controller: ${error.message}\n`);
  else logger.fatal({ err: error }, "controller ends");
  process.exitCode = 1;
}
