import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, closeSync, openSync } from "node:fs";
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
  /** Of this address; default 127.0.0.1. */
  readonly host?: string;
}

const startTimeoutMs = 60_000;
const stopTimeoutMs = 90_000;
/** A process that ends sooner than this after its start is started again more slowly each time. */
const quickDeathMs = 5_000;
/** After so many quick ends in a row at the first start, the start has failed. */
const quickDeathsAllowed = 5;

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
    while (!(await listens(this.plan.port, this.plan.host))) {
      if (Date.now() > deadline)
        throw new UnavailableError(
          "not_started",
          `${this.plan.name} did not start within ${startTimeoutMs / 1000} s; its log is ${this.plan.logPath}`,
        );
      if (this.#quickDeaths >= quickDeathsAllowed)
        throw new UnavailableError(
          "not_started",
          `${this.plan.name} ends again and again; its log is ${this.plan.logPath}`,
        );
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
    const { command, environment, logPath } = this.plan;
    const [program, ...parameters] = command;
    const log = openSync(logPath, "a", 0o600);
    const startedAtMs = Date.now();
    // Its stdin is our pipe: it closes when this process is gone, however it went. Its own group keeps a Ctrl-C of the
    // terminal away from it, so that everything closes in order. Its log is a file, which outlives us.
    const child = spawn(program, parameters, {
      stdio: ["pipe", log, log],
      detached: true,
      env: { ...process.env, ...environment, DRYDOCK_PARENT_PIPE: "1" },
    });
    closeSync(log);
    this.#child = child;
    const onEnd = (how: string): void => {
      if (this.#isStopping) return;
      appendFileSync(logPath, `${this.plan.name} ended: ${how}\n`);
      this.#quickDeaths = Date.now() - startedAtMs < quickDeathMs ? this.#quickDeaths + 1 : 0;
      setTimeout(() => this.#restart(), Math.min(10_000, 200 * 2 ** this.#quickDeaths));
    };
    // Nothing is ever written to it; that it breaks when the child dies is told by its end.
    child.stdin?.on("error", () => undefined);
    child.once("error", (error) => onEnd(error.message));
    child.once("exit", (code, signal) => onEnd(signal ?? `exit code ${code}`));
    this.#onChange();
  }

  #restart(): void {
    if (!this.#isStopping) this.#spawn();
  }
}

async function listens(port: number, host = "127.0.0.1"): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
