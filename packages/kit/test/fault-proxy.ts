import { createServer, request as forward, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A fault that the proxy commits on the next requests that match. */
export interface Fault {
  /** How many requests; later ones pass. */
  times: number;
  readonly kind:
    | { readonly status: number; readonly code?: string }
    /** The answer's body is cut after so many bytes. */
    | { readonly cutAfterBytes: number }
    /** The connection is cut once so many bytes of the request's body have passed. */
    | { readonly cutRequestAfterBytes: number }
    /** The server does what was asked, and its answer is lost. */
    | { readonly doneThenStatus: number }
    /** One bit of the answer's body is turned over at this byte. */
    | { readonly flipBitAtByte: number }
    /** The same in the body of the request. */
    | { readonly flipRequestBitAtByte: number }
    /** The request waits until this is settled. */
    | { readonly waitFor: Promise<void> };
  /** Only requests of this method. */
  readonly method?: string;
  /** Only requests whose path and query hold this. */
  readonly path?: string;
}

/** Stands before a server and does what a bad day does: refuses, cuts, damages, holds up. Passes everything else on. */
export class FaultProxy {
  readonly faults: Fault[] = [];
  readonly requests: string[] = [];
  readonly #server: Server;
  readonly #target: URL;

  private constructor(server: Server, target: URL) {
    this.#server = server;
    this.#target = target;
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer();
    const proxy = new FaultProxy(server, new URL(target));
    server.on("request", (request, response) => proxy.#handle(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const place = `${request.method} ${request.url}`;
    this.requests.push(place);
    const fault = this.faults.find(
      ({ times, method, path }) =>
        times > 0 &&
        (method === undefined || method === request.method) &&
        (path === undefined || place.includes(path)),
    );
    if (fault === undefined) return this.#pass(request, response, null);
    fault.times -= 1;
    const { kind } = fault;
    if ("status" in kind) {
      request.resume().once("end", () => refuse(response, kind.status, kind.code ?? "SlowDown"));
      return;
    }
    if ("waitFor" in kind) {
      void kind.waitFor.then(() => this.#pass(request, response, null));
      return;
    }
    this.#pass(request, response, kind);
  }

  #pass(request: IncomingMessage, response: ServerResponse, kind: Fault["kind"] | null): void {
    const { hostname, port } = this.#target;
    // The Host header is part of the signature: it passes as it came, and the server behind checks it as it is.
    const onward = forward({ hostname, port, method: request.method, path: request.url, headers: request.headers });
    onward.once("error", () => response.destroy());
    request.once("error", () => onward.destroy());
    response.once("close", () => onward.destroy());
    onward.once("response", (answer) => {
      if (kind !== null && "doneThenStatus" in kind) {
        answer.resume().once("end", () => refuse(response, kind.doneThenStatus, "InternalError"));
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.once("error", () => response.destroy());
      let sentBytes = 0;
      answer.on("data", (chunk: Buffer) => {
        const end = sentBytes + chunk.length;
        if (kind !== null && "cutAfterBytes" in kind && end > kind.cutAfterBytes) {
          response.write(chunk.subarray(0, kind.cutAfterBytes - sentBytes), () => response.destroy());
          answer.destroy();
          return;
        }
        if (kind !== null && "flipBitAtByte" in kind) flip(chunk, kind.flipBitAtByte - sentBytes);
        sentBytes = end;
        if (!response.write(chunk)) {
          answer.pause();
          response.once("drain", () => answer.resume());
        }
      });
      answer.once("end", () => response.end());
    });
    let passedBytes = 0;
    request.on("data", (chunk: Buffer) => {
      if (kind !== null && "cutRequestAfterBytes" in kind && passedBytes + chunk.length > kind.cutRequestAfterBytes) {
        onward.destroy();
        request.destroy();
        return;
      }
      if (kind !== null && "flipRequestBitAtByte" in kind) flip(chunk, kind.flipRequestBitAtByte - passedBytes);
      passedBytes += chunk.length;
      if (!onward.write(chunk)) {
        request.pause();
        onward.once("drain", () => request.resume());
      }
    });
    request.once("end", () => onward.end());
  }
}

function flip(chunk: Buffer, at: number): void {
  if (at >= 0 && at < chunk.length) chunk[at] = chunk[at]! ^ 1;
}

function refuse(response: ServerResponse, status: number, code: string): void {
  const body = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>${code}</Message></Error>`;
  response.writeHead(status, { "content-type": "application/xml", "content-length": Buffer.byteLength(body) });
  response.end(body);
}
