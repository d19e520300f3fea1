import { spawn } from "node:child_process";
import { mkdir, open, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import { z } from "zod";
import { identityOf, isAlive, residentBytes, type ProcessIdentity } from "./process-identity.ts";

const Entry = z.object({
  pid: z.int(),
  startTime: z.string(),
  logKey: z.string(),
  memoryLimitBytes: z.number().nullable(),
});
type Entry = z.infer<typeof Entry>;

export interface LocalProcessesOptions {
  /** Program and first arguments of a worker, e.g. node and its main.ts. */
  readonly command: readonly [string, ...string[]];
  /** Folder for process entries and logs. */
  readonly directory: string;
  /** Folder that all workers share for what they fetch from object storage; absent = each in its scratch space. */
  readonly cacheDirectory?: string;
  readonly storage: ObjectStorage;
  readonly logger: Logger;
}

/** One worker process to be started. */
export interface ProcessSpec {
  /** Starting the same name twice starts one. */
  readonly name: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly memoryLimitBytes: number | null;
  readonly logKey: string;
}

/** How a process ended; `exitCode` is null when another controller had started it. */
export interface ProcessEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly reason: "exited" | "out-of-memory" | "vanished";
}

export interface LocalProcess {
  readonly name: string;
  readonly ended: Promise<ProcessEnd>;
  stop(): void;
  kill(): void;
}

const watchIntervalMs = 500;
/** The log goes to storage every so many looks, and at the end. */
const looksPerShipment = 4;

/**
 * Worker processes of this computer, each in a group of its own. What runs is written down by process id
 * and start time, so that a controller that starts again finds its workers and takes nobody else's process for one.
 */
export class LocalProcesses {
  readonly #options: LocalProcessesOptions;
  /** Processes under watch, so that whoever asks for one gets the same, its exit code included. */
  readonly #watched = new Map<string, LocalProcess>();

  constructor(options: LocalProcessesOptions) {
    this.#options = options;
  }

  async start(spec: ProcessSpec): Promise<LocalProcess> {
    const running = await this.find(spec.name);
    if (running) return running;
    await mkdir(this.#options.directory, { recursive: true });
    const log = await open(this.#logPath(spec.name), "a");
    try {
      const [program, ...first] = this.#options.command;
      const child = spawn(program, [...first, "rank"], {
        detached: true,
        stdio: ["ignore", log.fd, log.fd],
        env: { ...baseEnvironment(), ...this.#cacheEnvironment(), ...spec.environment },
      });
      const exit = new Promise<ProcessEnd>((resolve) => {
        child.once("exit", (exitCode, signal) => resolve({ exitCode, signal, reason: "exited" }));
        child.once("error", (error) => {
          this.#options.logger.error({ err: error }, "worker cannot be started");
          resolve({ exitCode: null, signal: null, reason: "vanished" });
        });
      });
      const identity = child.pid === undefined ? null : await identityOf(child.pid);
      if (!identity) return { name: spec.name, ended: exit, stop: () => undefined, kill: () => undefined };
      const entry: Entry = { ...identity, logKey: spec.logKey, memoryLimitBytes: spec.memoryLimitBytes };
      await writeFile(`${this.#entryPath(spec.name)}.tmp`, JSON.stringify(entry));
      await rename(`${this.#entryPath(spec.name)}.tmp`, this.#entryPath(spec.name));
      return this.#watchedProcess(spec.name, entry, exit);
    } finally {
      await log.close();
    }
  }

  async find(name: string): Promise<LocalProcess | null> {
    const watched = this.#watched.get(name);
    if (watched) return watched;
    const entry = await this.#entry(name);
    if (!entry) return null;
    if (!(await isAlive(entry))) {
      // It ended while no controller looked: what it wrote last still goes to storage.
      await this.#shipLog(name, entry.logKey, -1);
      await rm(this.#entryPath(name), { force: true });
      return null;
    }
    return this.#watched.get(name) ?? this.#watchedProcess(name, entry, goneBySelf(entry));
  }

  async list(): Promise<LocalProcess[]> {
    await mkdir(this.#options.directory, { recursive: true });
    const names = (await readdir(this.#options.directory)).filter((file) => file.endsWith(".json"));
    const processes = await Promise.all(names.map(async (file) => await this.find(file.slice(0, -".json".length))));
    return processes.filter((found) => found !== null);
  }

  #watchedProcess(name: string, entry: Entry, exit: Promise<ProcessEnd>): LocalProcess {
    const ended = this.#watch(name, entry, exit).finally(() => this.#watched.delete(name));
    const signal = (which: NodeJS.Signals): void => this.#signal(name, entry, which);
    const found: LocalProcess = { name, ended, stop: () => signal("SIGTERM"), kill: () => signal("SIGKILL") };
    this.#watched.set(name, found);
    return found;
  }

  #signal(name: string, { pid }: ProcessIdentity, which: NodeJS.Signals): void {
    try {
      process.kill(-pid, which);
    } catch (error) {
      this.#options.logger.debug({ name, error: messageOf(error) }, "worker is gone already");
    }
  }

  /** Watches memory and ships the log until the process ends. */
  async #watch(name: string, entry: Entry, exit: Promise<ProcessEnd>): Promise<ProcessEnd> {
    let end: ProcessEnd | null = null;
    let isOverMemory = false;
    let shippedBytes = -1;
    const ended = exit.then((result) => (end = result));
    for (let looks = 1; !end; looks++) {
      await Promise.race([ended, delay(watchIntervalMs)]);
      if (looks % looksPerShipment === 0) shippedBytes = await this.#shipLog(name, entry.logKey, shippedBytes);
      if (!end && entry.memoryLimitBytes !== null && (await residentBytes(entry.pid)) > entry.memoryLimitBytes) {
        isOverMemory = true;
        this.#signal(name, entry, "SIGKILL");
        await ended;
      }
    }
    await this.#shipLog(name, entry.logKey, shippedBytes);
    await rm(this.#entryPath(name), { force: true });
    const result = await ended;
    return isOverMemory ? { ...result, reason: "out-of-memory" } : result;
  }

  /** Copies the log to object storage when it has grown. A store that is away costs a late log, never the run. */
  async #shipLog(name: string, key: string, shippedBytes: number): Promise<number> {
    try {
      const { size } = await stat(this.#logPath(name));
      if (size === shippedBytes) return shippedBytes;
      await this.#options.storage.putFile(key, this.#logPath(name));
      return size;
    } catch (error) {
      this.#options.logger.warn({ name, error: messageOf(error) }, "log is not in storage yet");
      return shippedBytes;
    }
  }

  async #entry(name: string): Promise<Entry | null> {
    try {
      return Entry.parse(JSON.parse(await readFile(this.#entryPath(name), "utf8")));
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
      this.#options.logger.warn({ name, error: messageOf(error) }, "process entry cannot be read");
      return null;
    }
  }

  #cacheEnvironment(): Record<string, string> {
    const { cacheDirectory } = this.#options;
    return cacheDirectory === undefined || process.env["DRYDOCK_CACHE"] !== undefined
      ? {}
      : { DRYDOCK_CACHE: cacheDirectory };
  }

  #entryPath(name: string): string {
    return join(this.#options.directory, `${name}.json`);
  }

  #logPath(name: string): string {
    return join(this.#options.directory, `${name}.log`);
  }
}

/** For a process that is not our child: looks until it is gone. Its exit code is nobody's to see. */
async function goneBySelf(identity: ProcessIdentity): Promise<ProcessEnd> {
  while (await isAlive(identity)) await delay(watchIntervalMs);
  return { exitCode: null, signal: null, reason: "vanished" };
}

/** What a worker inherits: paths and locale, no keys of the controller. */
function baseEnvironment(): Record<string, string> {
  const kept = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "DRYDOCK_LOG_LEVEL",
    "DRYDOCK_CACHE",
    "DRYDOCK_CACHE_GIB",
    "NODE_EXTRA_CA_CERTS",
    "S3_ENDPOINT",
    "S3_REGION",
    "S3_ACCESS_KEY_ID",
    "S3_SECRET_ACCESS_KEY",
    "S3_FORCE_PATH_STYLE",
    "S3_PART_SIZE_MIB",
    "S3_PARALLEL_PARTS",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
  ];
  return Object.fromEntries(
    kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])),
  );
}
