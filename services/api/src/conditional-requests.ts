import { sha256 } from "@drydock/kit";
import type { FastifyInstance } from "fastify";

/** Gives each JSON answer of a GET an ETag (its own `etag` header, else one of its bytes), and answers 304 to `If-None-Match`. */
export function installConditionalRequests(app: FastifyInstance): void {
  app.addHook("onSend", async (request, reply, payload) => {
    if (request.method !== "GET" || reply.statusCode !== 200 || typeof payload !== "string") return payload;
    const known = reply.getHeader("etag");
    const etag = typeof known === "string" ? known : `"${sha256(payload).slice(0, 20)}"`;
    reply.header("etag", etag);
    const wanted = request.headers["if-none-match"];
    if (wanted === undefined || !wanted.split(",").some((tag) => isSame(tag.trim(), etag))) return payload;
    reply.code(304).removeHeader("content-type").removeHeader("content-length");
    return "";
  });
}

/** Weak comparison (RFC 9110, 8.8.3.2). */
function isSame(wanted: string, etag: string): boolean {
  return wanted === "*" || wanted.replace(/^W\//, "") === etag.replace(/^W\//, "");
}
