import { availableParallelism, totalmem } from "node:os";
import {
  checkStorage,
  createLogger,
  InvalidError,
  isDrydockError,
  messageOf,
  openStorage,
  RetryingStorage,
  type Logger,
} from "@drydock/kit";
import { processorSupply } from "@drydock/spec";
import { buildApp } from "./app.ts";
import { apiConfigOf, type ApiConfig } from "./config.ts";
import { allScopes, newSecret, type KeyStore } from "./store/key-store.ts";
import { openDatabase } from "./store/database.ts";
import { removeLeftSpools } from "./uploads/receive-upload.ts";
import { connectTemporal } from "./workflows/temporal-workflows.ts";

/** Exit codes, as in sysexits: 64 wrong configuration, 69 the port is taken, 70 anything else. */
const exitCodes = { badConfiguration: 64, portInUse: 69, failed: 70 } as const;

/** How long a request waits for storage that is away, before its caller is told to come again. */
const storageBudgetMs = 5_000;

const logger = createLogger("api");

/** Serves until `ending` is aborted (its reason is logged), then closes in order and ends the process. */
export async function serve(ending: AbortSignal): Promise<void> {
  try {
    await run(apiConfigOf(process.env), logger, ending);
  } catch (error) {
    fail(error);
  }
}

async function run(config: ApiConfig, log: Logger, ending: AbortSignal): Promise<void> {
  const storage = openStorage(config.storageUrl);
  const storageIsAway = await checkStorage(storage);
  if (storageIsAway) log.warn({ error: storageIsAway.message }, "storage does not answer yet");
  await removeLeftSpools();
  if (ending.aborted) process.exit(0); // nothing is open yet
  const database = await openDatabase(config.database, log);
  const workflows = connectTemporal(config.temporal);
  const { server, services } = await buildApp({
    database,
    workflows,
    logger: log,
    modelsDirectory: config.modelsDirectory,
    internalKey: config.internalKey,
    signingKey: config.signingKey,
    webhookAllow: config.webhookAllow,
    storage: new RetryingStorage(storage, { budgetMs: storageBudgetMs }),
    downloads: config.downloads,
    supply: config.accelerators === "any" ? undefined : processorSupply(thisComputer()),
  });
  const generated = await ensureKey(services.keys, config.apiKey);
  let closing: Promise<void> | null = null;
  const close = async (reason: string): Promise<void> => {
    log.info({ reason }, "closing");
    await server.close();
    await workflows.close();
    await database.close();
  };
  const closeOnce = (reason: string): void => {
    closing ??= close(reason).then(() => process.exit(0), fail);
  };
  if (ending.aborted) return closeOnce(String(ending.reason));
  ending.addEventListener("abort", () => closeOnce(String(ending.reason)), { once: true });
  if (config.endsWithParent)
    process.stdin
      .once("end", () => closeOnce("parent ended"))
      .once("error", () => closeOnce("parent ended"))
      .resume();

  const url = await server.listen({ host: config.host, port: config.port });
  services.outbox.start();
  services.schedules.start();
  services.webhookLoop.start();
  services.housekeeping.start();
  process.stdout.write(
    `${JSON.stringify({ ready: true, url, ...(generated === null ? {} : { apiKey: generated }) })}\n`,
  );
}

/** Stores the configured key; without one, makes a key at the first start and answers with it, the only time it is shown. */
async function ensureKey(keys: KeyStore, configured: string | undefined): Promise<string | null> {
  if (configured !== undefined) {
    await keys.insert("default", configured, allScopes);
    return null;
  }
  if ((await keys.list()).length > 0) return null;
  const secret = newSecret();
  await keys.insert("default", secret, allScopes);
  return secret;
}

function thisComputer(): { memoryBytes: number; cores: number } {
  const limit = process.constrainedMemory();
  return { memoryBytes: limit > 0 ? Math.min(limit, totalmem()) : totalmem(), cores: availableParallelism() };
}

function fail(error: unknown): never {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "EADDRINUSE") {
    process.stderr.write(
      `drydock api: ${messageOf(error)}: another process listens there; stop it, or choose another PORT (0 for any free one)\n`,
    );
    process.exit(exitCodes.portInUse);
  }
  if (isDrydockError(error)) {
    process.stderr.write(`drydock api: ${error.message}\n`);
    process.exit(error instanceof InvalidError ? exitCodes.badConfiguration : exitCodes.failed);
  }
  logger.fatal({ err: error }, "failed");
  process.exit(exitCodes.failed);
}
