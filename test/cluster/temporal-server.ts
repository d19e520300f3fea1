import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo } from "node:net";
import { ensureTemporal } from "../../services/cli/src/up/temporal-server.ts";
import { until } from "../support/embedded.ts";

/** A Temporal server of a test, in memory, on a free port of 127.0.0.1. */
export class TemporalServer {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(port: number, child: ChildProcess) {
    this.port = port;
    this.#child = child;
  }

  static async start(): Promise<TemporalServer> {
    const program = await ensureTemporal(console.log);
    const port = await freePort();
    const parameters = ["server", "start-dev", "--ip", "127.0.0.1", "--port", String(port), "--headless"];
    const child = spawn(program, [...parameters, "--log-level", "error"], { stdio: "ignore" });
    await until("Temporal answers", async () => ((await answers(port)) ? true : null));
    return new TemporalServer(port, child);
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.kill("SIGTERM");
    await ended;
  }
}

async function answers(port: number): Promise<boolean> {
  const socket = connect(port, "127.0.0.1");
  const result = await Promise.race([
    once(socket, "connect").then(() => true),
    once(socket, "error").then(() => false),
  ]).catch(() => false);
  socket.destroy();
  return result;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
