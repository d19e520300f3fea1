import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createHash, randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";

/** A fault that the server commits on its next requests. */
export interface Fault {
  /** How many requests; later ones are served. */
  times: number;
  /** Answer with this status, or cut the connection after so many bytes of the body. */
  readonly kind:
    | { readonly status: number }
    | { readonly cutAfterBytes: number }
    | { readonly storeThenStatus: number };
  /** Only requests of this method. */
  readonly method?: string;
}

/** Just enough of S3 for `S3Storage`: objects, conditional puts, ranges, pages, multipart uploads, and faults on demand. */
export class S3Server {
  readonly objects = new Map<string, Buffer>();
  readonly requests: string[] = [];
  readonly faults: Fault[] = [];
  pageSize = 1000;
  readonly #uploads = new Map<string, Map<number, Buffer>>();
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<S3Server> {
    const server = createServer();
    const fake = new S3Server(server);
    server.on("request", (request, response) => {
      fake.#handle(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get openUploads(): number {
    return this.#uploads.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request);
    const url = new URL(request.url ?? "/", this.url);
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    const fault = this.faults.find(
      ({ times, method }) => times > 0 && (method === undefined || method === request.method),
    );
    if (fault) {
      fault.times -= 1;
      if ("status" in fault.kind) return fail(response, fault.kind.status, "ServiceUnavailable");
      if ("cutAfterBytes" in fault.kind) return this.#cut(url, request, response, fault.kind.cutAfterBytes);
    }
    const answer = this.#serve(request, url, body);
    if (fault && "storeThenStatus" in fault.kind) return fail(response, fault.kind.storeThenStatus, "InternalError");
    if (answer.status >= 400) return fail(response, answer.status, answer.code ?? "Error");
    response.writeHead(answer.status, {
      "content-length": answer.sizeBytes ?? answer.body?.length ?? 0,
      ...answer.headers,
    });
    response.end(request.method === "HEAD" ? undefined : answer.body);
  }

  #serve(request: IncomingMessage, url: URL, body: Buffer): Answer {
    const key = decodeURIComponent(url.pathname).split("/").slice(2).join("/");
    const uploadId = url.searchParams.get("uploadId");
    switch (request.method) {
      case "PUT":
        if (uploadId !== null) return this.#putPart(uploadId, Number(url.searchParams.get("partNumber")), body);
        return this.#put(key, body, request.headers["if-none-match"]);
      case "POST":
        if (uploadId === null) return this.#openUpload();
        return this.#complete(key, uploadId, request.headers["if-none-match"]);
      case "DELETE":
        if (uploadId !== null) this.#uploads.delete(uploadId);
        else this.objects.delete(key);
        return { status: 204 };
      default:
        return url.searchParams.get("list-type") === "2" ? this.#list(url) : this.#get(key, request.headers.range);
    }
  }

  #put(key: string, body: Buffer, ifNoneMatch: string | undefined): Answer {
    if (ifNoneMatch === "*" && this.objects.has(key)) return { status: 412, code: "PreconditionFailed" };
    this.objects.set(key, body);
    return { status: 200, headers: { etag: etagOf(body) } };
  }

  #openUpload(): Answer {
    const id = randomUUID();
    this.#uploads.set(id, new Map());
    return xml(`<InitiateMultipartUploadResult><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
  }

  #putPart(uploadId: string, partNumber: number, body: Buffer): Answer {
    const parts = this.#uploads.get(uploadId);
    if (!parts) return { status: 404, code: "NoSuchUpload" };
    parts.set(partNumber, body);
    return { status: 200, headers: { etag: etagOf(body) } };
  }

  #complete(key: string, uploadId: string, ifNoneMatch: string | undefined): Answer {
    const parts = this.#uploads.get(uploadId);
    if (!parts) return { status: 404, code: "NoSuchUpload" };
    const stored = this.#put(
      key,
      Buffer.concat([...parts].sort(([a], [b]) => a - b).map(([, part]) => part)),
      ifNoneMatch,
    );
    if (stored.status >= 400) return stored;
    this.#uploads.delete(uploadId);
    return xml(`<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`);
  }

  #get(key: string, range: string | undefined): Answer {
    const object = this.objects.get(key);
    if (!object) return { status: 404, code: "NoSuchKey" };
    const headers = { "last-modified": new Date(0).toUTCString(), etag: etagOf(object) };
    const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(range ?? "") ?? [];
    if (start === undefined || end === undefined) return { status: 200, body: object, headers };
    return { status: 206, body: object.subarray(Number(start), Number(end) + 1), headers };
  }

  #list(url: URL): Answer {
    const prefix = url.searchParams.get("prefix") ?? "";
    const after = url.searchParams.get("continuation-token") ?? "";
    const keys = [...this.objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, this.pageSize);
    const contents = page
      .map(
        (key) =>
          `<Contents><Key>${key}</Key><Size>${this.objects.get(key)?.length}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>`,
      )
      .join("");
    const more =
      keys.length > page.length
        ? `<IsTruncated>true</IsTruncated><NextContinuationToken>${page.at(-1)}</NextContinuationToken>`
        : "<IsTruncated>false</IsTruncated>";
    return xml(`<ListBucketResult>${more}${contents}</ListBucketResult>`);
  }

  #cut(url: URL, request: IncomingMessage, response: ServerResponse, afterBytes: number): void {
    const answer = this.#serve(request, url, Buffer.alloc(0));
    const body = answer.body ?? Buffer.alloc(0);
    response.writeHead(answer.status, { "content-length": body.length, ...answer.headers });
    response.write(body.subarray(0, afterBytes), () => response.destroy());
  }
}

interface Answer {
  readonly status: number;
  readonly code?: string;
  readonly body?: Buffer;
  readonly sizeBytes?: number;
  readonly headers?: Record<string, string>;
}

function xml(text: string): Answer {
  return {
    status: 200,
    body: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`),
    headers: { "content-type": "application/xml" },
  };
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { "content-type": "application/xml" });
  response.end(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`);
}

function etagOf(body: Buffer): string {
  return `"${createHash("md5").update(body).digest("hex")}"`;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
