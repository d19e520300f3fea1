import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile, readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";

/** A Drydock on this computer, started as a user starts it, seen from outside. */
export class Embedded {
  readonly stateDirectory: string;
  readonly #environment: Readonly<Record<string, string>>;
  #child: ChildProcess | null = null;
  url = "";
  #key = "";

  constructor(stateDirectory: string, environment: Readonly<Record<string, string>> = {}) {
    this.stateDirectory = stateDirectory;
    this.#environment = environment;
  }

  /** One that somebody else started. */
  static at(url: string, key: string): Embedded {
    const found = new Embedded("");
    found.url = url;
    found.#key = key;
    return found;
  }

  async up(): Promise<void> {
    const child = spawn(process.execPath, [resolve(import.meta.dirname, "run-up.ts"), this.stateDirectory], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, DRYDOCK_LOG_LEVEL: "info", ...this.#environment },
    });
    this.#child = child;
    let problems = "";
    child.stderr.on("data", (chunk: Buffer) => (problems += chunk.toString()));
    const ready = once(createInterface({ input: child.stdout }), "line") as Promise<[string]>;
    const ended = once(child, "exit").then(() => null);
    const first = await Promise.race([ready, ended]);
    if (first === null) throw new Error(`drydock up ended: ${problems}`);
    const connection = JSON.parse(first[0]) as { url: string; key: string };
    this.url = connection.url;
    this.#key = connection.key;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Ctrl-C, then waits for the end. */
  async down(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }

  /** Process ids by name: `up`, `temporal`, `api`, `controller`. */
  async processes(): Promise<Record<string, number>> {
    const lock = JSON.parse(await readFile(join(this.stateDirectory, "up.json"), "utf8")) as {
      pid: number;
      children: { name: string; pid: number }[];
    };
    return { up: lock.pid, ...Object.fromEntries(lock.children.map(({ name, pid }) => [name, pid])) };
  }

  /** Process ids of the workers that run. */
  async workers(): Promise<number[]> {
    const folder = join(this.stateDirectory, "controller", "pods");
    const entries = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(".json"));
    return await Promise.all(
      entries.map(async (name) => (JSON.parse(await readFile(join(folder, name), "utf8")) as { pid: number }).pid),
    );
  }

  /** kill -9 of `up`, everything that it started, and every worker. */
  async killEverything(): Promise<void> {
    const ended = this.#child ? once(this.#child, "exit") : Promise.resolve();
    for (const pid of [...Object.values(await this.processes()), ...(await this.workers())]) kill(pid);
    await ended;
  }

  /** kill -9 of `up` alone. */
  async killUp(): Promise<void> {
    const ended = this.#child ? once(this.#child, "exit") : Promise.resolve();
    kill(this.pid);
    await ended;
  }

  /** kill -9 of `api`, `controller` or `temporal`; comes back when `up` has started it again, and the api answers. */
  async killProcess(name: string): Promise<void> {
    const { [name]: killed = 0 } = await this.processes();
    kill(killed);
    await until(`${name} is started again`, async () => {
      const { [name]: pid = killed } = await this.processes();
      const answer = pid === killed ? null : await this.request("GET", "/readyz").catch(() => null);
      return answer?.status === 200 ? true : null;
    });
  }

  async request(
    method: string,
    path: string,
    body?: unknown,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<{ status: number; body: unknown }> {
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#key}`,
        ...(body === undefined || body instanceof FormData ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return { status: response.status, body: text === "" ? null : (JSON.parse(text) as unknown) };
  }

  /** The body of a call that must succeed. */
  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.request(method, path, body);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body as T;
  }

  /** The text of a file that must be there. */
  async text(path: string): Promise<string> {
    const response = await fetch(`${this.url}${path}`, { headers: { authorization: `Bearer ${this.#key}` } });
    const text = await response.text();
    if (!response.ok) throw new Error(`GET ${path}: ${response.status} ${text}`);
    return text;
  }

  /** Makes a data set of the files of a folder and waits until it is checked. */
  async importFolder(name: string, folder: string, options: object): Promise<void> {
    await this.call("POST", "/v1/datasets", { name });
    await this.importVersion(name, folder, options);
  }

  /** Uploads the files of a folder as a data set's next version and waits until it is checked. */
  async importVersion(name: string, folder: string, options: object): Promise<void> {
    const form = new FormData();
    for (const file of await readdir(folder))
      form.append("files", new Blob([await readFile(join(folder, file))]), basename(file));
    const upload = await this.call<{ id: string }>("POST", `/v1/datasets/${name}/uploads`, form);
    const version = await this.call<{ version: number }>("POST", `/v1/datasets/${name}/versions`, {
      uploadId: upload.id,
      options,
    });
    const path = `/v1/datasets/${name}/versions/${version.version}`;
    const done = await until(`data set ${name} is checked`, async () => {
      const found = await this.call<{ state: string; reason: string | null }>("GET", path);
      return found.state === "validating" ? null : found;
    });
    if (done.state !== "ready") throw new Error(`data set ${name}: ${done.reason}`);
  }

  async run(id: string): Promise<RunView> {
    return await this.call<RunView>("GET", `/v1/runs/${id}`);
  }

  /** Waits until the run is in one of the states. Rides out a server that is away. */
  async runIn(id: string, states: readonly string[]): Promise<RunView> {
    return await until(`run ${id} is ${states.join(" or ")}`, async () => {
      const run = await this.run(id).catch(() => null);
      return run && states.includes(run.state) ? run : null;
    });
  }

  /** Waits until the run has taken so many steps. */
  async runAtStep(id: string, step: number): Promise<RunView> {
    return await until(`run ${id} is at step ${step}`, async () => {
      const run = await this.run(id).catch(() => null);
      return run && (run.progress.step >= step || isOver(run)) ? run : null;
    });
  }
}

export interface RunView {
  readonly id: string;
  readonly state: string;
  readonly reason: string;
  readonly message: string;
  readonly model: string | null;
  readonly progress: { readonly step: number; readonly totalSteps: number };
  readonly attempts: readonly {
    readonly epoch: number;
    readonly state: string;
    readonly failureClass: string | null;
    readonly fromStep: number;
    readonly lastStep: number;
  }[];
}

export interface EvaluationView {
  readonly state: string;
  readonly message: string;
  readonly samples: number;
  readonly scores: Readonly<Record<string, number>> | null;
  readonly resultsKey: string | null;
}

function isOver({ state }: RunView): boolean {
  return ["succeeded", "failed", "cancelled"].includes(state);
}

/** kill -9. One that is gone already is as good. */
export function kill(pid: number): void {
  // 0 is the whole group of whoever asks, these tests included.
  if (pid <= 0) throw new Error("there is no process to kill");
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** Looks again and again until `look` gives something. @throws Error naming what was waited for */
export async function until<T>(what: string, look: () => Promise<T | null>, limitMs = 120_000): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== null) return found;
    if (Date.now() > deadline) throw new Error(`waited ${limitMs / 1000} s in vain until ${what}`);
    await delay(100);
  }
}
