import { randomBytes } from "node:crypto";
import {
  accessSync,
  constants,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ConflictError, InvalidError, messageOf } from "@drydock/kit";
import { z } from "zod";
import { identityOf, isAlive, type ProcessIdentity } from "./process-identity.ts";

const Identity = z.object({ pid: z.int(), startTime: z.string() });
const LockFile = Identity.extend({ url: z.string(), children: z.array(Identity.extend({ name: z.string() })) });
type LockFile = z.infer<typeof LockFile>;

const SettingsFile = z.object({
  apiKey: z.string(),
  internalKey: z.string(),
  ports: z.object({ api: z.int(), temporal: z.int(), controller: z.int() }),
});
/** Keys and ports of a state folder: made once, so that URLs and workers outlive a restart. */
export type Settings = z.infer<typeof SettingsFile>;

/** The folder in which one `drydock up` keeps everything. */
export class StateFolder {
  readonly path: string;
  #lock: LockFile;

  private constructor(path: string, lock: LockFile) {
    this.path = path;
    this.#lock = lock;
  }

  /**
   * Takes the folder for this process, and ends what a killed `up` left behind (its api, controller and Temporal server;
   * workers are left for the controller to adopt).
   *
   * @throws ConflictError `already_up` when another `up` runs on it
   * @throws InvalidError `bad_state_folder` when nothing can be written there
   */
  static async take(folder: string): Promise<StateFolder> {
    const path = resolve(folder);
    makeStateFolder(path);
    const self = identityOf(process.pid);
    const state = new StateFolder(path, { ...(self ?? { pid: process.pid, startTime: "" }), url: "", children: [] });
    while (!createFile(state.#lockPath, JSON.stringify(state.#lock))) await releaseStale(state.#lockPath, path);
    return state;
  }

  /** Notes the processes that run, so that a later `up` can end them if this one is killed. */
  noteChildren(children: readonly (ProcessIdentity & { readonly name: string })[], url: string): void {
    this.#lock = {
      ...this.#lock,
      url,
      children: children.map(({ pid, startTime, name }) => ({ pid, startTime, name })),
    };
    replaceFile(this.#lockPath, JSON.stringify(this.#lock));
  }

  release(): void {
    rmSync(this.#lockPath, { force: true });
  }

  /**
   * Settings of the folder; made at the first start. `apiPort` 0 = any free one.
   * @param controllerHost  address at which the controller listens
   */
  async settings(apiPort: number | undefined, controllerHost = loopback): Promise<Settings> {
    const path = join(this.path, "settings.json");
    const saved = readJson(path, SettingsFile);
    const ports = {
      api:
        apiPort === undefined
          ? (saved?.ports.api ?? 7420)
          : apiPort === 0
            ? await reusedOrFree(saved?.ports.api)
            : apiPort,
      temporal: await reusedOrFree(saved?.ports.temporal),
      controller: await reusedOrFree(saved?.ports.controller, controllerHost),
    };
    if (!(await isFree(ports.api)))
      throw new ConflictError(
        "port_in_use",
        `port ${ports.api} on 127.0.0.1 is in use by another program: choose one with --port, e.g. --port 0 for any free one`,
      );
    const settings: Settings = {
      apiKey: saved?.apiKey ?? `dd_${randomBytes(24).toString("base64url")}`,
      internalKey: saved?.internalKey ?? randomBytes(24).toString("base64url"),
      ports,
    };
    replaceFile(path, JSON.stringify(settings, null, 2));
    return settings;
  }

  writeConnection(url: string, key: string): void {
    replaceFile(join(this.path, "connection.json"), `${JSON.stringify({ url, key }, null, 2)}\n`);
  }

  get #lockPath(): string {
    return join(this.path, "up.json");
  }
}

const loopback = "127.0.0.1";

/** The folder with its `logs`, ready to be written to. */
function makeStateFolder(path: string): void {
  try {
    makeFolders(join(path, "logs"));
    accessSync(path, constants.W_OK);
  } catch (error) {
    throw new InvalidError(
      "bad_state_folder",
      `nothing can be kept in ${path} (${messageOf(error)}): choose another folder with --state FOLDER`,
      { cause: error },
    );
  }
}

/** As `mkdir -p`. Node's recursive `mkdir` never returns where the system says that a folder's parent is not there, as /proc does. */
function makeFolders(path: string): void {
  try {
    mkdirSync(path);
  } catch (error) {
    if (hasCode(error, "EEXIST") && statSync(path).isDirectory()) return;
    if (!hasCode(error, "ENOENT")) throw error;
    makeFolders(dirname(path));
    mkdirSync(path);
  }
}

/** Removes a lock whose owner is gone, once what that one started is gone too. @throws ConflictError when it is not */
async function releaseStale(lockPath: string, folder: string): Promise<void> {
  const lock = readJson(lockPath, LockFile);
  if (lock === null) return;
  if (isAlive(lock)) throw alreadyUp(folder, lock);
  for (const child of lock.children) {
    if (isAlive(child)) process.kill(child.pid, "SIGKILL");
    // Until it is really gone its port and its database are not ours.
    while (isAlive(child)) await delay(20);
  }
  removeExactly(lockPath, lock, folder);
}

/** Takes the lock away by renaming it, and puts it back when somebody else was faster and it is theirs by now. */
function removeExactly(lockPath: string, stale: LockFile, folder: string): void {
  const aside = `${lockPath}.${process.pid}.stale`;
  try {
    renameSync(lockPath, aside);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return;
    throw error;
  }
  const taken = readJson(aside, LockFile);
  const isOurs = taken?.pid === stale.pid && taken.startTime === stale.startTime;
  if (!isOurs) linkSync(aside, lockPath);
  rmSync(aside, { force: true });
  if (!isOurs && taken) throw alreadyUp(folder, taken);
}

function alreadyUp(folder: string, { pid, url }: LockFile): ConflictError {
  return new ConflictError(
    "already_up",
    `drydock is up on ${folder} already (process ${pid}${url ? `, ${url}` : ""}): stop it there with Ctrl-C, or start another with --state FOLDER`,
  );
}

/** Creates a file with all of its content at once; false when it is there already. */
function createFile(path: string, text: string): boolean {
  const temporary = `${path}.${process.pid}.new`;
  writeFileSync(temporary, text, { mode: 0o600 });
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

function readJson<T>(path: string, schema: z.ZodType<T>): T | null {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new InvalidError(
      "bad_state_file",
      `${path} is damaged (${messageOf(error).split("\n")[0]}): remove it, or start with another --state FOLDER`,
      { cause: error },
    );
  }
}

function replaceFile(path: string, text: string): void {
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, path);
}

/** The port used before, so that workers that still run find their controller; a free one when it is taken. */
async function reusedOrFree(saved: number | undefined, host = loopback): Promise<number> {
  return saved !== undefined && (await isFree(saved, host)) ? saved : await freePort(host);
}

/** A port of an address of this computer that nobody listens on there. */
export async function freePort(host = loopback): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, host, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

async function isFree(port: number, host = loopback): Promise<boolean> {
  return await new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
