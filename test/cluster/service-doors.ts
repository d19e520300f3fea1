import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Where connections to a door go, asked for each of them. */
type Target = () => Promise<{ readonly host: string; readonly port: number }>;

/**
 * Addresses on the pods' network whose connections go to servers elsewhere: what kube-proxy does for Services. The test
 * cluster has none, since it would change the packet filter of the whole computer.
 */
export class ServiceDoors implements AsyncDisposable {
  readonly #hostAddress: string;
  readonly #servers: Server[] = [];
  readonly #addresses: string[] = [];

  /** @param hostAddress  this computer as pods reach it */
  constructor(hostAddress: string) {
    this.#hostAddress = hostAddress;
  }

  /** A door at the host's address, on a free port; answers `host:port`. */
  async open(target: Target): Promise<string> {
    return `${this.#hostAddress}:${await this.#listen(this.#hostAddress, 0, target)}`;
  }

  /** A door at an address of its own, such as a Service's. */
  async openAt(address: string, port: number, target: Target): Promise<void> {
    if (!this.#addresses.includes(address)) {
      await run("ip", ["address", "add", `${address}/32`, "dev", await this.#bridge()]);
      this.#addresses.push(address);
    }
    await this.#listen(address, port, target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) server.close();
    const bridge = await this.#bridge().catch(() => null);
    for (const address of this.#addresses)
      if (bridge !== null) await run("ip", ["address", "delete", `${address}/32`, "dev", bridge]);
  }

  async #listen(host: string, port: number, target: Target): Promise<number> {
    const server = createServer((incoming) => {
      incoming.on("error", () => incoming.destroy());
      target().then(
        (place) => {
          const outgoing = connect(place);
          outgoing.on("error", () => incoming.destroy());
          incoming.once("close", () => outgoing.destroy());
          incoming.pipe(outgoing).pipe(incoming);
        },
        () => incoming.destroy(),
      );
    }).listen(port, host);
    await once(server, "listening");
    this.#servers.push(server);
    return (server.address() as AddressInfo).port;
  }

  /** The interface that has the host's address. */
  async #bridge(): Promise<string> {
    const { stdout } = await run("ip", ["-o", "-4", "address", "show"]);
    const line = stdout.split("\n").find((each) => each.includes(` ${this.#hostAddress}/`));
    const name = line?.split(/\s+/)[1];
    if (name === undefined) throw new Error(`no interface has the address ${this.#hostAddress}`);
    return name;
  }
}
