import { spawn } from "node:child_process";
import { mkdir, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { messageOf, type Logger, type ObjectStorage } from "@drydock/kit";
import { z } from "zod";
import type { ClusterBackend, Pod, PodEnd, PodSpec } from "./cluster-backend.ts";
import { identityOf, isAlive, residentBytes, type ProcessIdentity } from "./process-identity.ts";

const Entry = z.object({ pid: z.int(), startTime: z.string(), logKey: z.string(), memoryLimitBytes: z.number().nullable() });
type Entry = z.infer<typeof Entry>;

export interface LocalBackendOptions {
  /** Program and first arguments of a worker, e.g. node and its main.ts. */
  readonly command: readonly [string, ...string[]];
  /** Folder for process entries and logs. */
  readonly directory: string;
  readonly storage: ObjectStorage;
  readonly logger: Logger;
}

const watchIntervalMs = 500;

/**
 * Pods as operating-system processes of this computer, each in a group of its own. What runs is written down by process id
 * and start time, so that a controller that starts again finds its workers and takes nobody else's process for one.
 */
export class LocalBackend implements ClusterBackend {
  readonly #options: LocalBackendOptions;
  readonly #live = new Set<Pod>();

  constructor(options: LocalBackendOptions) {
    this.#options = options;
  }

  async start(spec: PodSpec): Promise<Pod> {
    const running = await this.find(spec.name);
    if (running) return running;
    await mkdir(this.#options.directory, { recursive: true });
    const log = await open(this.#logPath(spec.name), "a");
    try {
      const [program, ...first] = this.#options.command;
      const child = spawn(program, [...first, "rank"], { detached: true, stdio: ["ignore", log.fd, log.fd], env: { ...baseEnvironment(), ...spec.environment } });
      const exit = new Promise<PodEnd>((resolve) => {
        child.once("exit", (exitCode, signal) => resolve({ exitCode, signal, reason: "exited" }));
        child.once("error", (error) => {
          this.#options.logger.error({ err: error }, "worker cannot be started");
          resolve({ exitCode: null, signal: null, reason: "vanished" });
        });
      });
      const identity = child.pid === undefined ? null : await identityOf(child.pid);
      if (!identity) return { name: spec.name, ended: exit, stop: () => undefined, kill: () => undefined };
      const entry: Entry = { ...identity, logKey: spec.logKey, memoryLimitBytes: spec.memoryLimitBytes };
      await writeFile(this.#entryPath(spec.name), JSON.stringify(entry));
      return this.#watched(spec.name, entry, exit);
    } finally {
      await log.close();
    }
  }

  async find(name: string): Promise<Pod | null> {
    const entry = await this.#entry(name);
    if (!entry || !(await isAlive(entry))) return null;
    return this.#watched(name, entry, goneBySelf(entry));
  }

  /** Asks every worker to stop after a checkpoint: this computer is being shut down in order. */
  stopAll(): void {
    for (const pod of this.#live) pod.stop();
  }

  #watched(name: string, entry: Entry, exit: Promise<PodEnd>): Pod {
    const ended = this.#watch(name, entry, exit).finally(() => this.#live.delete(pod));
    const signal = (which: NodeJS.Signals): void => {
      try {
        process.kill(-entry.pid, which);
      } catch (error) {
        this.#options.logger.debug({ name, error: messageOf(error) }, "worker is gone already");
      }
    };
    const pod: Pod = { name, ended, stop: () => signal("SIGTERM"), kill: () => signal("SIGKILL") };
    this.#live.add(pod);
    return pod;
  }

  /** Watches memory and ships the log until the process ends. */
  async #watch(name: string, entry: Entry, exit: Promise<PodEnd>): Promise<PodEnd> {
    let end: PodEnd | null = null;
    let isOverMemory = false;
    let shippedBytes = -1;
    const ended = exit.then((result) => (end = result));
    while (!end) {
      await Promise.race([ended, delay(watchIntervalMs)]);
      shippedBytes = await this.#shipLog(name, entry.logKey, shippedBytes);
      if (entry.memoryLimitBytes !== null && (await residentBytes(entry.pid)) > entry.memoryLimitBytes) {
        isOverMemory = true;
        process.kill(-entry.pid, "SIGKILL");
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
    const { size } = await stat(this.#logPath(name));
    if (size === shippedBytes) return shippedBytes;
    try {
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

  #entryPath(name: string): string {
    return join(this.#options.directory, `${name}.json`);
  }

  #logPath(name: string): string {
    return join(this.#options.directory, `${name}.log`);
  }
}

/** For a process that is not our child: looks until it is gone. Its exit code is nobody's to see. */
async function goneBySelf(identity: ProcessIdentity): Promise<PodEnd> {
  while (await isAlive(identity)) await delay(watchIntervalMs);
  return { exitCode: null, signal: null, reason: "vanished" };
}

/** What a worker inherits: paths and locale, no keys of the controller. */
function baseEnvironment(): Record<string, string> {
  const kept = ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "DRYDOCK_LOG_LEVEL", "S3_ENDPOINT", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
  return Object.fromEntries(kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]])));
}
