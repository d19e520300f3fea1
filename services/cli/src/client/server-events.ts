import { UnavailableError } from "@drydock/kit";
import type { HttpClient } from "./http.ts";

/** One server-sent event. */
export interface ServerEvent {
  readonly id: string | null;
  readonly type: string;
  readonly data: string;
}

/** Splits the text of an event stream (WHATWG HTML, section 9.2) into events. */
export async function* parseEvents(chunks: AsyncIterable<string>): AsyncGenerator<ServerEvent> {
  let buffer = "";
  let [id, type, data]: [string | null, string, string[]] = [null, "message", []];
  for await (const chunk of chunks) {
    buffer += chunk;
    const lines = buffer.split(/\r\n|\n|\r(?!$)/);
    buffer = lines.pop()!;
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { id, type, data: data.join("\n") };
        [type, data] = ["message", []];
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") data.push(value);
      else if (field === "event") type = value;
      else if (field === "id" && !value.includes("\0")) id = value;
    }
  }
}

export interface FollowOptions {
  readonly signal: AbortSignal;
  /** Id of the last event that is already known. */
  readonly after?: string;
  /** Called when the stream broke and is opened again. */
  readonly onReconnect?: (error: unknown) => void;
  /** Milliseconds before the n-th try in a row; after the last one the error is thrown. */
  readonly retryDelaysMs?: readonly number[];
}

const defaultDelaysMs: readonly number[] = [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000];

/**
 * Follows a stream of events, opening it again after the last event seen whenever it breaks, so that nothing is lost
 * and nothing comes twice. Ends when the server ends it with an event named `end`, or when `signal` fires.
 *
 * @throws UnavailableError when the server stays away for all tries in a row
 */
export async function* followEvents(
  client: HttpClient,
  path: string,
  options: FollowOptions,
): AsyncGenerator<ServerEvent> {
  const delays = options.retryDelaysMs ?? defaultDelaysMs;
  let last = options.after ?? null;
  let failures = 0;
  while (!options.signal.aborted) {
    try {
      const headers: Record<string, string> = last === null ? {} : { "last-event-id": last };
      const response = await client.send("GET", path, { accept: "text/event-stream", signal: options.signal, headers });
      if (response.body === null) throw new UnavailableError("empty_stream", `${path} answered without a stream`);
      const text = response.body.pipeThrough(new TextDecoderStream());
      for await (const event of parseEvents(text as unknown as AsyncIterable<string>)) {
        failures = 0;
        if (event.id !== null) last = event.id;
        if (event.type === "end") return;
        yield event;
      }
      // The server closed a stream that is not over: it is restarting, or a proxy cut it.
      await pause(delays[Math.min(failures++, delays.length - 1)]!, options.signal);
    } catch (error) {
      if (options.signal.aborted) return;
      const isBroken = error instanceof UnavailableError || error instanceof TypeError;
      const delayMs = delays[failures++];
      if (!isBroken || delayMs === undefined) throw error;
      options.onReconnect?.(error);
      await pause(delayMs, options.signal);
    }
  }
}

/** Waits, or returns at once when `signal` fires. */
async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener("abort", () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
}
