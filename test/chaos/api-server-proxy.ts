import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { Agent, createServer, request, type Server } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster/cluster.ts";

/** What happens to a request on its way. */
export type Trouble =
  /** Refused before it arrives. */
  | { readonly kind: "status"; readonly status: 429 | 500; readonly retryAfterSeconds?: number }
  /** A watch is told that its version is too old: in its stream, or at once by the status. */
  | { readonly kind: "gone"; readonly how: "event" | "status" }
  | { readonly kind: "slow"; readonly milliseconds: number }
  /** It arrives and does its work; its answer is lost. */
  | { readonly kind: "answer-lost" };

/** Which requests trouble strikes, and how many of them at most. */
export interface Target {
  readonly matches: (method: string, path: string) => boolean;
  readonly most?: number;
}

/** A trouble that lasts until it is ended. */
export interface Ongoing {
  /** How often it has struck. */
  readonly count: () => number;
  end(): void;
}

interface Active {
  readonly trouble: Trouble;
  readonly target: Target;
  count: number;
}

/** Stands between a controller and its API server, hands everything on, and breaks what it is told to. */
export class ApiServerProxy {
  readonly #server: Server;
  readonly #upstream: URL;
  readonly #agent: Agent;
  readonly #active = new Set<Active>();
  readonly #watches = new Set<ServerResponse>();

  private constructor(server: Server, upstream: URL, agent: Agent) {
    this.#server = server;
    this.#upstream = upstream;
    this.#agent = agent;
    server.on("request", (incoming: IncomingMessage, answer: ServerResponse) => {
      this.#handle(incoming, answer).catch(() => answer.destroy());
    });
  }

  /** Listens on this computer, with a certificate of the cluster's authority. */
  static async start({ plane }: Cluster): Promise<ApiServerProxy> {
    const name = `proxy-${randomBytes(3).toString("hex")}`;
    const pair = await plane.authority.issue(name, { commonName: name, alternativeNames: ["IP:127.0.0.1"] });
    const server = createServer({ cert: await readFile(pair.certificate), key: await readFile(pair.key) });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const agent = new Agent({ keepAlive: true, ca: await readFile(plane.authority.certificate) });
    return new ApiServerProxy(server, new URL(plane.server), agent);
  }

  /** A copy of a kubeconfig that leads here. */
  async kubeconfig(path: string, folder: string): Promise<string> {
    const { port } = this.#server.address() as AddressInfo;
    const text = (await readFile(path, "utf8")).replaceAll(this.#upstream.origin, `https://127.0.0.1:${port}`);
    const copy = join(folder, "through-the-proxy.kubeconfig");
    await writeFile(copy, text, { mode: 0o600 });
    return copy;
  }

  /** From now on strikes requests of the target. */
  begin(trouble: Trouble, target: Target): Ongoing {
    const active: Active = { trouble, target, count: 0 };
    this.#active.add(active);
    return { count: () => active.count, end: () => void this.#active.delete(active) };
  }

  /** Cuts every watch that is open, in the middle of whatever it says. Answers how many there were. */
  cutWatches(): number {
    const open = [...this.#watches];
    for (const answer of open) answer.destroy();
    return open.length;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    this.#agent.destroy();
    await once(this.#server, "close");
  }

  async #handle(incoming: IncomingMessage, answer: ServerResponse): Promise<void> {
    const { method = "GET", url: path = "/" } = incoming;
    const trouble = this.#troubleOf(method, path);
    if (trouble?.kind === "status") return refuse(answer, trouble.status, trouble.retryAfterSeconds);
    if (trouble?.kind === "gone") return tellGone(answer, trouble.how);
    if (trouble?.kind === "slow") await delay(trouble.milliseconds);
    await this.#handOn(incoming, answer, trouble?.kind === "answer-lost");
  }

  async #handOn(incoming: IncomingMessage, answer: ServerResponse, isAnswerLost: boolean): Promise<void> {
    const { method, url: path = "/", headers } = incoming;
    const outgoing = request(new URL(path, this.#upstream), {
      method,
      agent: this.#agent,
      headers: { ...headers, host: this.#upstream.host },
    });
    outgoing.once("error", () => answer.destroy());
    answer.once("close", () => outgoing.destroy());
    incoming.pipe(outgoing);
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    if (isAnswerLost) {
      await response.resume().toArray();
      answer.destroy();
      return;
    }
    if (isWatch(path)) {
      this.#watches.add(answer);
      answer.once("close", () => this.#watches.delete(answer));
    }
    answer.writeHead(response.statusCode ?? 502, response.headers);
    answer.flushHeaders();
    response.once("error", () => answer.destroy());
    response.once("aborted", () => answer.destroy());
    response.pipe(answer);
  }

  #troubleOf(method: string, path: string): Trouble | null {
    for (const active of this.#active) {
      if (active.trouble.kind === "gone" && !isWatch(path)) continue;
      if (active.count >= (active.target.most ?? Infinity) || !active.target.matches(method, path)) continue;
      active.count += 1;
      return active.trouble;
    }
    return null;
  }
}

function isWatch(path: string): boolean {
  return path.includes("watch=true");
}

function refuse(answer: ServerResponse, status: number, retryAfterSeconds: number | undefined): void {
  const message = status === 429 ? "too many requests: slow down" : "the server has an internal problem";
  answer.writeHead(status, {
    "content-type": "application/json",
    ...(retryAfterSeconds === undefined ? {} : { "retry-after": String(retryAfterSeconds) }),
  });
  answer.end(JSON.stringify({ kind: "Status", status: "Failure", code: status, message }));
}

function tellGone(answer: ServerResponse, how: "event" | "status"): void {
  const status = {
    kind: "Status",
    status: "Failure",
    code: 410,
    reason: "Expired",
    message: "too old resource version",
  };
  answer.writeHead(how === "status" ? 410 : 200, { "content-type": "application/json" });
  answer.end(`${JSON.stringify(how === "status" ? status : { type: "ERROR", object: status })}\n`);
}
