import { InvalidError, digestOf } from "@drydock/kit";
import type { FastifyReply, FastifyRequest } from "fastify";
import { callerOf } from "./authentication.ts";
import type { Caller, Work, WriteUnit } from "./store/write-unit.ts";

/** Who asks for what, as the write unit wants to know it. @throws InvalidError `invalid_idempotency_key` */
export function writeCallerOf(request: FastifyRequest): Caller {
  const header = request.headers["idempotency-key"];
  const key = Array.isArray(header) ? header[0] : header;
  if (key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(key)) {
    const message = "Idempotency-Key must be 1 to 255 printable characters without spaces, e.g. a UUID";
    throw new InvalidError("invalid_idempotency_key", message, {
      details: [{ path: "Idempotency-Key", code: "invalid_idempotency_key", message }],
    });
  }
  const action = `${request.method} ${request.routeOptions.url ?? request.url}`;
  return { actor: callerOf(request).id, requestId: request.id, action, idempotencyKey: key ?? null };
}

/** Does the work of a request once per `Idempotency-Key`; marks an answer that was given before. */
export async function writeOnce<Prepared, Answer>(
  writes: WriteUnit,
  request: FastifyRequest,
  reply: FastifyReply,
  work: Omit<Work<Prepared, Answer>, "bodyDigest">,
): Promise<Answer> {
  const outcome = await writes.once(writeCallerOf(request), { ...work, bodyDigest: bodyDigestOf(request) });
  if (outcome.isReplay) reply.header("idempotency-replayed", "true");
  return outcome.answer;
}

/** Answers a POST that writes nothing, the same each time it comes with the same `Idempotency-Key`. */
export async function answerOnce<Answer>(
  writes: WriteUnit,
  request: FastifyRequest,
  reply: FastifyReply,
  compute: () => Promise<Answer>,
): Promise<Answer> {
  const outcome = await writes.remember(writeCallerOf(request), bodyDigestOf(request), compute);
  if (outcome.isReplay) reply.header("idempotency-replayed", "true");
  return outcome.answer;
}

function bodyDigestOf(request: FastifyRequest): string {
  return digestOf({ method: request.method, url: request.url, body: request.body ?? null });
}
