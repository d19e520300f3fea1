import { createServer, request, type IncomingMessage, type Server } from "node:http";
import { once } from "node:events";
import { join } from "node:path";
import { messageOf } from "@drydock/kit";
import type { ClusterComponent } from "./component.ts";

/** The socket by which other processes on this computer handle a cluster's components. */
function socketIn(folder: string): string {
  return join(folder, "control.sock");
}

/** Lets other processes start, stop and kill the components. */
export async function serveComponents(folder: string, component: (name: string) => ClusterComponent): Promise<Server> {
  const server = createServer((incoming, answer) => {
    const [name = "", action = ""] = (incoming.url ?? "").split("/").slice(1);
    const act = async (): Promise<void> => await perform(component(name), action);
    act().then(
      () => answer.end(),
      (error: unknown) => answer.writeHead(500).end(messageOf(error)),
    );
  });
  server.listen(socketIn(folder));
  await once(server, "listening");
  return server;
}

async function perform(component: ClusterComponent, action: string): Promise<void> {
  switch (action) {
    case "start":
      return await component.start();
    case "kill9":
      return await component.kill9();
    case "stop":
      return await component.stop();
    case "SIGSTOP":
    case "SIGCONT":
      return await component.signal(action);
    default:
      throw new Error(`a component cannot ${action}`);
  }
}

/** A component of a cluster that another process started. */
export class RemoteComponent implements ClusterComponent {
  readonly name: string;
  readonly #folder: string;

  constructor(folder: string, name: string) {
    this.#folder = folder;
    this.name = name;
  }

  async start(): Promise<void> {
    await this.#ask("start");
  }

  async kill9(): Promise<void> {
    await this.#ask("kill9");
  }

  async stop(): Promise<void> {
    await this.#ask("stop");
  }

  async signal(name: "SIGSTOP" | "SIGCONT"): Promise<void> {
    await this.#ask(name);
  }

  async #ask(action: string): Promise<void> {
    const outgoing = request({ socketPath: socketIn(this.#folder), path: `/${this.name}/${action}`, method: "POST" });
    outgoing.end();
    const [answer] = (await once(outgoing, "response")) as [IncomingMessage];
    const text = (await answer.toArray()).map(String).join("");
    if (answer.statusCode !== 200) throw new Error(text);
  }
}
