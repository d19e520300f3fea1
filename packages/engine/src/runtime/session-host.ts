import "./no-telemetry.ts";
import { Worker } from "node:worker_threads";
import type { SessionAnswer, SessionReply, SessionRequest } from "./session-messages.ts";

interface Waiting {
  readonly resolve: (answer: SessionAnswer) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The process's one session thread, started with the first session. All sessions share it, so a training step and an
 * answer never fight for the cores. It keeps the process alive only while it works.
 */
class SessionHost {
  #worker: Worker | null = null;
  readonly #waiting = new Map<number, Waiting>();
  #asked = 0;

  async ask<K extends SessionAnswer["kind"]>(
    request: SessionRequest,
    kind: K,
  ): Promise<Extract<SessionAnswer, { kind: K }>> {
    const worker = this.#started();
    const id = ++this.#asked;
    worker.ref();
    const answer = await new Promise<SessionAnswer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, body: request });
    });
    if (answer.kind !== kind) throw new Error(`the session thread answered ${answer.kind} to a request for ${kind}`);
    return answer as Extract<SessionAnswer, { kind: K }>;
  }

  #started(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(new URL("session-thread.ts", import.meta.url), { execArgv: [] });
    worker.on("message", (reply: SessionReply) => this.#settle(worker, reply));
    worker.on("error", (error) => this.#fail(error instanceof Error ? error : new Error(String(error))));
    worker.on("exit", (code) => this.#fail(new Error(`the session thread ended with code ${code}`)));
    this.#worker = worker;
    return worker;
  }

  #settle(worker: Worker, reply: SessionReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) worker.unref();
    if ("failure" in reply) waiting?.reject(new Error(reply.failure));
    else waiting?.resolve(reply.body);
  }

  #fail(error: Error): void {
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

export const sessionHost = new SessionHost();
