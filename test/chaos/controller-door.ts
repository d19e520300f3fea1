import { once } from "node:events";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** Calls that are kept to be told again. */
const kept = 400;

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

  /** Says once more whatever workers of a run said until now. Answers the statuses that came back. */
  async replay(runId: string): Promise<number[]> {
    const statuses: number[] = [];
    for (const call of this.#calls.filter(({ body }) => body.includes(runId)))
      statuses.push((await this.#send(call)).status);
    return statuses;
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
