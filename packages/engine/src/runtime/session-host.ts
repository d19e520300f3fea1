import "./no-telemetry.ts";
import type { SessionAnswer, SessionRequest } from "./session-messages.ts";
import { ThreadClient } from "./thread-client.ts";

/** The process's one session thread. All sessions share it, so a training step and an answer never fight for the cores. */
class SessionHost {
  readonly #thread = new ThreadClient<SessionRequest, SessionAnswer>(new URL("session-thread.ts", import.meta.url));

  async ask<K extends SessionAnswer["kind"]>(
    request: SessionRequest,
    kind: K,
  ): Promise<Extract<SessionAnswer, { kind: K }>> {
    const answer = await this.#thread.ask(request);
    if (answer.kind !== kind) throw new Error(`the session thread answered ${answer.kind} to a request for ${kind}`);
    return answer as Extract<SessionAnswer, { kind: K }>;
  }
}

export const sessionHost = new SessionHost();
