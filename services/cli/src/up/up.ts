import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { checkStorage, openStorage } from "@drydock/kit";
import { SupervisedProcess, type ProcessPlan } from "./supervised-process.ts";
import { signingKeyFile } from "./signing-key.ts";
import { StateFolder, type Settings } from "./state-folder.ts";
import { ensureTemporal } from "./temporal-server.ts";

export interface UpOptions {
  /** State folder; default `.drydock`. */
  readonly state?: string | undefined;
  /** Port of the API; default 7420 or the one used before, 0 = any free one. */
  readonly port?: number | undefined;
  /** Gets lines while starting. */
  readonly tell: (line: string) => void;
  /** Aborted to stop (Ctrl-C). */
  readonly signal: AbortSignal;
  /** Called once everything answers. */
  readonly onReady: (connection: { readonly url: string; readonly key: string }) => void;
}

const repository = fileURLToPath(new URL("../../../../", import.meta.url));

/**
 * Starts everything on this computer and stays until `signal` is aborted: Temporal server, api, controller; workers are
 * started by the controller. A process that dies is started again. Closes in order.
 *
 * @throws InvalidError for settings of storage that cannot work; ConflictError `already_up` or `port_in_use`; NotFoundError `no_temporal`; UnavailableError `not_started`
 */
export async function up(options: UpOptions): Promise<void> {
  const state = await StateFolder.take(options.state ?? ".drydock");
  const processes: SupervisedProcess[] = [];
  try {
    await checkOwnStorage(options.tell);
    const settings = await state.settings(options.port, process.env["CONTROLLER_HOST"] || undefined);
    const url = `http://127.0.0.1:${settings.ports.api}`;
    const noteChildren = (): void =>
      state.noteChildren(
        processes.flatMap(({ identity }) => identity ?? []),
        url,
      );
    for (const plan of await plansOf(state.path, settings, options.tell)) {
      if (options.signal.aborted) return;
      const supervised = new SupervisedProcess(plan, noteChildren);
      processes.push(supervised);
      await supervised.start();
    }
    noteChildren();
    state.writeConnection(url, settings.apiKey);
    options.onReady({ url, key: settings.apiKey });
    await aborted(options.signal);
    options.tell("closing: runs in progress write a checkpoint and go on at the next start …");
  } finally {
    for (const supervised of processes.toReversed()) await supervised.stop();
    state.release();
  }
}

/** A wrong setting of object storage is told before anything starts. */
async function checkOwnStorage(tell: (line: string) => void): Promise<void> {
  const url = process.env["STORAGE_URL"];
  if (!url) return;
  const isAway = await checkStorage(openStorage(url));
  if (isAway) tell(`${isAway.message}; starting all the same`);
}

/** The processes in the order in which they start. */
async function plansOf(statePath: string, settings: Settings, tell: (line: string) => void): Promise<ProcessPlan[]> {
  const { ports, apiKey, internalKey } = settings;
  const external = process.env["TEMPORAL_ADDRESS"];
  const address = external ?? `127.0.0.1:${ports.temporal}`;
  const service = (name: string): readonly [string, string] => [
    process.execPath,
    join(repository, "services", name, "src", "main.ts"),
  ];
  const logPath = (name: string): string => join(statePath, "logs", `${name}.log`);
  const shared = {
    DRYDOCK_INTERNAL_KEY: internalKey,
    STORAGE_URL: process.env["STORAGE_URL"] ?? pathToFileURL(join(statePath, "storage")).href,
    MODELS_DIRECTORY: process.env["MODELS_DIRECTORY"] ?? resolve(repository, "models"),
    TEMPORAL_ADDRESS: address,
  };
  const temporal: ProcessPlan[] = external
    ? []
    : [
        {
          name: "temporal",
          command: [await ensureTemporal(tell), ...temporalArguments(ports.temporal, join(statePath, "temporal.db"))],
          environment: {},
          logPath: logPath("temporal"),
          port: ports.temporal,
        },
      ];
  return [
    ...temporal,
    {
      name: "api",
      command: service("api"),
      environment: {
        ...shared,
        HOST: "127.0.0.1",
        PORT: String(ports.api),
        DRYDOCK_API_KEY: apiKey,
        ...(process.env["DRYDOCK_SIGNING_KEY"] || process.env["DRYDOCK_SIGNING_KEY_FILE"]
          ? {}
          : { DRYDOCK_SIGNING_KEY_FILE: signingKeyFile(statePath) }),
        ...(process.env["DATABASE_URL"] ? {} : { PGLITE_DIRECTORY: join(statePath, "database") }),
      },
      logPath: logPath("api"),
      port: ports.api,
    },
    {
      name: "controller",
      command: service("controller"),
      environment: {
        ...shared,
        DRYDOCK_API_URL: `http://127.0.0.1:${ports.api}`,
        CONTROLLER_PORT: String(ports.controller),
        DRYDOCK_CONTROLLER_STATE: join(statePath, "controller"),
      },
      logPath: logPath("controller"),
      port: ports.controller,
      // Workers on a cluster reach it by another address than the loopback's.
      ...(process.env["CONTROLLER_HOST"] ? { host: process.env["CONTROLLER_HOST"] } : {}),
    },
  ];
}

/** A dev server that keeps what it acknowledged through kill -9. */
function temporalArguments(port: number, database: string): string[] {
  return [
    "server",
    "start-dev",
    "--ip",
    "127.0.0.1",
    "--port",
    String(port),
    "--headless",
    "--db-filename",
    database,
    "--sqlite-pragma",
    "journal_mode=wal",
    "--sqlite-pragma",
    "synchronous=2",
    "--log-level",
    "error",
  ];
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
