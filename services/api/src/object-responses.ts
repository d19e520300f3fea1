import { extname } from "node:path";
import { NotFoundError, type ObjectStorage } from "@drydock/kit";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Services } from "./services.ts";

const types: Readonly<Record<string, string>> = {
  ".png": "image/png",
  ".jpg": "image/jpeg",
  ".jpeg": "image/jpeg",
  ".webp": "image/webp",
  ".gif": "image/gif",
  ".bmp": "image/bmp",
  ".tif": "image/tiff",
  ".tiff": "image/tiff",
  ".avif": "image/avif",
  ".json": "application/json",
  ".jsonl": "application/jsonl",
  ".md": "text/markdown; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};

/** Content type by a file's name; bytes when it is not known. */
export function contentTypeOf(name: string): string {
  return types[extname(name).toLowerCase()] ?? "application/octet-stream";
}

/** Response schema of a route that streams bytes. */
export function binaryResponse<const Type extends string>(type: Type, description: string) {
  return { description, content: { [type]: { schema: z.any().meta({ type: "string", format: "binary" }) } } };
}

/** Response schema of a download that storage serves itself. */
export const redirectResponse = z
  .null()
  .describe("`location` is where storage gives the file to whoever has the URL, for fifteen minutes");

/** How long the URL of a download works: long enough to begin; what has begun goes on. */
const downloadSeconds = 900;

export interface ObjectAnswer {
  readonly key: string;
  /** The key names the content, so that it may be kept for ever. */
  readonly isImmutable: boolean;
  /** Name under which a browser saves it. */
  readonly fileName?: string;
  /** SHA-256 of the content, for the ETag. */
  readonly sha256?: string;
}

/**
 * A download: the address where storage itself gives it, when it has one to give and `downloads` says so; otherwise the
 * object, streamed by us.
 *
 * @throws NotFoundError `file_not_found`
 */
export async function sendDownload(
  request: FastifyRequest,
  reply: FastifyReply,
  { storage, downloads }: Pick<Services, "storage" | "downloads">,
  object: ObjectAnswer & { readonly fileName: string },
): Promise<FastifyReply> {
  // A URL is signed for one method: to HEAD we answer ourselves.
  if (downloads === "stream" || !storage.downloadUrl || request.method !== "GET")
    return await sendObject(request, reply, storage, object);
  if ((await storage.head(object.key)) === null)
    throw new NotFoundError("file_not_found", `there is no file "${object.fileName}" in storage`);
  const url = await storage.downloadUrl(object.key, {
    expiresInSeconds: downloadSeconds,
    fileName: object.fileName,
    contentType: contentTypeOf(object.fileName),
  });
  return await reply.header("cache-control", "no-store").redirect(url, 302);
}

/**
 * Streams an object, or with `Range: bytes=a-b` a part of it.
 *
 * @throws NotFoundError `file_not_found`
 */
export async function sendObject(
  request: FastifyRequest,
  reply: FastifyReply,
  storage: ObjectStorage,
  object: ObjectAnswer,
): Promise<FastifyReply> {
  const info = await storage.head(object.key);
  const name = object.fileName ?? object.key.split("/").at(-1)!;
  if (info === null) throw new NotFoundError("file_not_found", `there is no file "${name}" in storage`);
  const etag = `"${object.sha256 ?? (object.isImmutable ? name : `${info.modifiedAt.getTime()}-${info.sizeBytes}`)}"`;
  reply.header("etag", etag).header("accept-ranges", "bytes").header("x-content-type-options", "nosniff");
  // Pictures and files come from users: whatever they hold, a browser must not run it here.
  reply.header("content-security-policy", "default-src 'none'; sandbox");
  reply.header("cache-control", object.isImmutable ? "private, max-age=31536000, immutable" : "private, no-cache");
  if (object.fileName !== undefined)
    reply.header("content-disposition", `attachment; filename*=UTF-8''${encodeURIComponent(object.fileName)}`);
  if (request.headers["if-none-match"]?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag) === true)
    return await reply.code(304).send();
  reply.type(contentTypeOf(name));
  const range = rangeOf(request.headers.range, info.sizeBytes);
  if (range === null) return await reply.header("content-length", info.sizeBytes).send(await storage.read(object.key));
  reply.code(206).header("content-range", `bytes ${range.start}-${range.endExclusive - 1}/${info.sizeBytes}`);
  return await reply
    .header("content-length", range.endExclusive - range.start)
    .send(await storage.read(object.key, range));
}

/** The one byte range asked for; null (the whole object) for none, several, or one that makes no sense. */
function rangeOf(header: string | undefined, sizeBytes: number): { start: number; endExclusive: number } | null {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === undefined) return null;
  const start = Number(from);
  const endExclusive = to === undefined || to === "" ? sizeBytes : Math.min(sizeBytes, Number(to) + 1);
  return start < endExclusive ? { start, endExclusive } : null;
}
