import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "@drydock/kit";
import { identityOf, type ProcessIdentity } from "./process-identity.ts";

export interface ProcessPlan {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  readonly logPath: string;
  /** Listens on this port when it is ready. */
  readonly port: number;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 90_000;

/** A child process that is started again when it dies, until it is stopped. */
export class SupervisedProcess {
  readonly plan: ProcessPlan;
  readonly #onChange: () => void;
  #child: ChildProcess | null = null;
  #isStopping = false;
  #quickDeaths = 0;

  constructor(plan: ProcessPlan, onChange: () => void) {
    this.plan = plan;
    this.#onChange = onChange;
  }

  /** Identity while it runs. */
  get identity(): (ProcessIdentity & { readonly name: string }) | null {
    const found = this.#child?.pid === undefined ? null : identityOf(this.#child.pid);
    return found && { ...found, name: this.plan.name };
  }

  /** Starts it and waits until it listens. @throws UnavailableError naming the log when it does not */
  async start(): Promise<void> {
    this.#spawn();
    const deadline = Date.now() + startTimeoutMs;
    while (!(await listens(this.plan.port))) {
      if (Date.now() > deadline) throw new UnavailableError("not_started", `${this.plan.name} did not start within ${startTimeoutMs / 1000} s; its log is ${this.plan.logPath}`);
      if (this.#quickDeaths >= 5) throw new UnavailableError("not_started", `${this.plan.name} ends again and again; its log is ${this.plan.logPath}`);
      await delay(50);
    }
    this.#quickDeaths = 0;
  }

  /** Asks it to end, and ends it when it does not. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), stopTimeoutMs);
    await ended;
    clearTimeout(killer);
  }

  #spawn(): void {
    const [program, ...parameters] = this.plan.command;
    const log = createWriteStream(this.plan.logPath, { flags: "a" });
    const startedAtMs = Date.now();
    // Its stdin is our pipe: it closes when this process is gone, however it went. Its own group keeps a Ctrl-C of the
    // terminal away from it, so that everything closes in order.
    const child = spawn(program, parameters, { stdio: ["pipe", "pipe", "pipe"], detached: true, env: { ...process.env, ...this.plan.environment, DRYDOCK_PARENT_PIPE: "1" } });
    this.#child = child;
    child.stdout.pipe(log, { end: false });
    child.stderr.pipe(log, { end: false });
    child.stdin.on("error", () => undefined);
    child.once("error", (error) => log.write(`${error.message}\n`));
    child.once("exit", () => {
      log.end();
      if (this.#isStopping) return;
      this.#quickDeaths = Date.now() - startedAtMs < 5_000 ? this.#quickDeaths + 1 : 0;
      setTimeout(() => this.#restart(), Math.min(10_000, 200 * 2 ** this.#quickDeaths));
    });
    this.#onChange();
  }

  #restart(): void {
    if (!this.#isStopping) this.#spawn();
  }
}

async function listens(port: number): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
