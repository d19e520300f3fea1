import { once } from "node:events";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** Calls that are kept to be told again. */
const kept = 400;

/** The first two fields of each call, as they stand in its bytes: the run's id (field 1, a text) and the epoch (field 2, a number). */
function isOf(body: Buffer, runId: string, epoch: number): boolean {
  const start = Buffer.from([0x0a, runId.length, ...Buffer.from(runId), 0x10, epoch]);
  return body.subarray(0, start.length).equals(start);
}

interface Call {
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

/**
 * What a Service is to workers on a cluster: one address, behind it whichever controller leads. It can deliver what
 * workers say twice, and say again what they said long ago.
 */
export class ControllerDoor {
  readonly #server: Server;
  #leadsTo: { readonly host: string; readonly port: number } | null = null;
  readonly #calls: Call[] = [];
  #isDoubling = false;
  #doubled = 0;

  private constructor(server: Server) {
    this.#server = server;
    server.on("request", (incoming: IncomingMessage, answer: ServerResponse) => {
      this.#handle(incoming, answer).catch(() => answer.destroy());
    });
  }

  static async open(host: string): Promise<ControllerDoor> {
    const server = createServer().listen(0, host);
    await once(server, "listening");
    return new ControllerDoor(server);
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  /** The controller that serves from now on. */
  leadTo(host: string, port: number): void {
    this.#leadsTo = { host, port };
  }

  /** From now on every call arrives twice; the worker sees the first answer. Answers how to end that: it tells how many did. */
  deliverTwice(): () => number {
    this.#isDoubling = true;
    const before = this.#doubled;
    return () => {
      this.#isDoubling = false;
      return this.#doubled - before;
    };
  }

  /** Says once more whatever workers of an attempt said. Answers how often they had spoken. */
  async replay(runId: string, epoch: number): Promise<number> {
    const said = this.#calls.filter(({ body }) => isOf(body, runId, epoch));
    for (const call of said) await this.#send(call);
    return said.length;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const body = Buffer.concat((await incoming.toArray()) as Buffer[]);
    const call = { path: incoming.url ?? "/", headers: incoming.headers, body };
    this.#calls.push(call);
    if (this.#calls.length > kept) this.#calls.shift();
    const { status, headers, content } = await this.#send(call);
    answer.writeHead(status, headers).end(content);
    if (!this.#isDoubling) return;
    await this.#send(call);
    this.#doubled += 1;
  }

  async #send(call: Call): Promise<{ status: number; headers: IncomingMessage["headers"]; content: Buffer }> {
    if (this.#leadsTo === null) throw new Error("no controller leads yet");
    const { host, port } = this.#leadsTo;
    const outgoing = request({ host, port, path: call.path, method: "POST", headers: call.headers, agent: false });
    outgoing.end(call.body);
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    const content = Buffer.concat((await response.toArray()) as Buffer[]);
    const { "transfer-encoding": _chunked, connection: _kept, ...headers } = response.headers;
    return { status: response.statusCode ?? 502, headers, content };
  }
}
