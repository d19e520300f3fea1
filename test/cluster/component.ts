import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { openSync, closeSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";

export interface ComponentSpec {
  readonly name: string;
  readonly program: string;
  readonly parameters: readonly string[];
  readonly logPath: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** True once it does its work. */
  readonly isReady: () => Promise<boolean>;
}

const readyWithinMs = 60_000;

/** A server of the cluster as tests handle it, in whichever process it was started. */
export interface ClusterComponent {
  readonly name: string;
  /** Starts it and waits until it is ready. @throws Error with the end of its log */
  start(): Promise<void>;
  /** kill -9, and waits until it is gone. */
  kill9(): Promise<void>;
  /** Asks it to end; kills it when it does not within the time. */
  stop(withinMs?: number): Promise<void>;
  /** Stops its clock (SIGSTOP) or lets it go on (SIGCONT). */
  signal(name: "SIGSTOP" | "SIGCONT"): void | Promise<void>;
}

/** One server process of the cluster. It can be killed and started again: faults are real ones. */
export class Component implements ClusterComponent {
  readonly #spec: ComponentSpec;
  #child: ChildProcess | null = null;

  constructor(spec: ComponentSpec) {
    this.#spec = spec;
  }

  get name(): string {
    return this.#spec.name;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts it and waits until it is ready. @throws Error with the end of its log */
  async start(): Promise<void> {
    this.launch();
    await this.ready();
  }

  /** Starts it without waiting. */
  launch(): void {
    const { program, parameters, logPath, environment } = this.#spec;
    const log = openSync(logPath, "a");
    try {
      this.#child = spawn(program, parameters, {
        stdio: ["ignore", log, log],
        env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...environment },
      });
    } finally {
      closeSync(log);
    }
  }

  async ready(): Promise<void> {
    const deadline = performance.now() + readyWithinMs;
    while (!(await this.#spec.isReady().catch(() => false))) {
      if (this.#hasEnded()) throw new Error(`${this.name} ended:\n${await this.#endOfLog()}`);
      if (performance.now() > deadline) throw new Error(`${this.name} is not ready:\n${await this.#endOfLog()}`);
      await delay(50);
    }
  }

  /** kill -9, and waits until it is gone. */
  async kill9(): Promise<void> {
    await this.#end("SIGKILL", 0);
  }

  /** Asks it to end; kills it when it does not within the time. */
  async stop(withinMs = 3000): Promise<void> {
    await this.#end("SIGTERM", withinMs);
  }

  /** Stops its clock (SIGSTOP) or lets it go on (SIGCONT). */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child?.kill(name);
  }

  async #end(signal: "SIGKILL" | "SIGTERM", withinMs: number): Promise<void> {
    const child = this.#child;
    if (!child || this.#hasEnded()) return;
    const ended = once(child, "exit");
    child.kill(signal);
    if (signal === "SIGTERM" && (await Promise.race([ended, delay(withinMs)])) === undefined) child.kill("SIGKILL");
    await ended;
  }

  #hasEnded(): boolean {
    return this.#child === null || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  async #endOfLog(): Promise<string> {
    return (await readFile(this.#spec.logPath, "utf8")).split("\n").slice(-15).join("\n");
  }
}
