import { parentPort } from "node:worker_threads";
import type { Envelope, Reply } from "./thread-client.ts";

/** Makes this worker thread answer the requests of its `ThreadClient`. */
export function serveThread<Request, Answer>(answer: (request: Request) => Answer | Promise<Answer>): void {
  const port = parentPort;
  if (!port) throw new Error("this module is started as a worker thread, by ThreadClient");
  const reply = async ({ id, body }: Envelope<Request>): Promise<Reply<Answer>> => {
    try {
      return { id, body: await answer(body) };
    } catch (error) {
      return { id, failure: error instanceof Error ? error.message : String(error) };
    }
  };
  port.on("message", (envelope: Envelope<Request>) => {
    void reply(envelope).then((message) => port.postMessage(message));
  });
}
