import "./no-telemetry.ts";
import type { SessionAnswer, SessionRequest } from "./session-messages.ts";
import { ThreadClient } from "./thread-client.ts";

/** One of the process's session threads. Sessions of one thread never run at once, so they never fight for the cores. */
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

const hosts = new Map<number, SessionHost>();

/** The session thread of a lane. Lane 0 is everybody's; others are for what is meant to run beside it. */
export function sessionHost(lane: number): SessionHost {
  const known = hosts.get(lane) ?? new SessionHost();
  hosts.set(lane, known);
  return known;
}
