import { Worker } from "node:worker_threads";

export interface Envelope<T> {
  readonly id: number;
  readonly body: T;
}
export type Reply<Answer> = Envelope<Answer> | { readonly id: number; readonly failure: string };

interface Waiting<Answer> {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/**
 * Asks one worker thread, which answers by `serveThread`. The thread starts with the first request, and keeps the process
 * alive only while it works. When it ends by itself, what waits fails and the next request starts another.
 */
export class ThreadClient<Request, Answer> {
  readonly #script: URL;
  #worker: Worker | null = null;
  readonly #waiting = new Map<number, Waiting<Answer>>();
  #asked = 0;

  /** @param script  a module that calls `serveThread` */
  constructor(script: URL) {
    this.#script = script;
  }

  async ask(request: Request): Promise<Answer> {
    const worker = this.#started();
    const id = ++this.#asked;
    worker.ref();
    return await new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.postMessage({ id, body: request } satisfies Envelope<Request>);
    });
  }

  /** Ends the thread; a later request starts it anew. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #started(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.#script, { execArgv: [] });
    const name = this.#script.pathname.split("/").at(-1);
    worker.on("message", (reply: Reply<Answer>) => this.#settle(worker, reply));
    worker.on("error", (error) => this.#fail(worker, error instanceof Error ? error : new Error(String(error))));
    worker.on("exit", (code) => this.#fail(worker, new Error(`the thread of ${name} ended with code ${code}`)));
    this.#worker = worker;
    return worker;
  }

  #settle(worker: Worker, reply: Reply<Answer>): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) worker.unref();
    if ("failure" in reply) waiting?.reject(new Error(reply.failure));
    else waiting?.resolve(reply.body);
  }

  #fail(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return; // its successor has begun
    this.#worker = null;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
