import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";

/** One event of a stream; `id` is where a client that lost the connection goes on (`Last-Event-ID`). */
export interface StreamedEvent {
  readonly id?: string | number;
  readonly event: string;
  readonly data: unknown;
}

/** What a route says of a stream in its schema; a stream itself is sent as it is. */
export const streamSchema = z.unknown().meta({ type: "string" });

/** Milliseconds between looks for news when nobody announced any: another server may have written it. */
export const lookAgainMs = 1_000;

/** True when the client asks for `text/event-stream`. */
export function wantsEventStream(request: FastifyRequest): boolean {
  return /\btext\/event-stream\b/.test(request.headers.accept ?? "");
}

/** The position after which the client wants to go on: its `Last-Event-ID` header, else `fallback`. */
export function lastEventId(request: FastifyRequest, fallback: number): number {
  const header = request.headers["last-event-id"];
  const value = Number(Array.isArray(header) ? header[0] : header);
  return header !== undefined && Number.isSafeInteger(value) && value >= 0 ? value : fallback;
}

/**
 * Answers with a stream of events, which ends with an event named `end`; a stream that stops without one was cut, and
 * the client comes back with its last id.
 *
 * @param events  yields null when there was no news for a while: sent as a comment, which keeps proxies from closing
 * @param closing  fires when the server closes
 */
export function eventStream(
  reply: FastifyReply,
  closing: AbortSignal,
  events: AsyncIterable<StreamedEvent | null>,
): Readable {
  reply.type("text/event-stream; charset=utf-8").header("cache-control", "no-store").header("x-accel-buffering", "no");
  return Readable.from(textOf(events, closing), { objectMode: false });
}

async function* textOf(events: AsyncIterable<StreamedEvent | null>, closing: AbortSignal): AsyncGenerator<string> {
  yield "retry: 1000\n\n";
  for await (const event of events) {
    if (closing.aborted) return;
    yield event === null ? ": still here\n\n" : formatEvent(event);
  }
  if (!closing.aborted) yield formatEvent({ event: "end", data: {} });
}

function formatEvent({ id, event, data }: StreamedEvent): string {
  return `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
