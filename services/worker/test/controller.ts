import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Directive, WorkerService, type ReportRequest } from "@drydock/proto";

/** A controller that speaks the real protocol, from one process, with its answers in the test's hands. */
export class TestController {
  readonly reports: ReportRequest[] = [];
  joins = 0;
  directive: Directive = Directive.CONTINUE;
  /** Attempts with another token are refused. */
  token = "secret";
  /** Ranks of the attempt; they are told of each other when all have joined. */
  worldSize = 1;
  readonly #addresses = new Map<number, string>();
  readonly #configJson: string;
  #server: Server;
  #port = 0;
  #told: (() => void)[] = [];

  private constructor(config: object) {
    this.#configJson = JSON.stringify(config);
    this.#server = this.#create();
  }

  static async start(config: object): Promise<TestController> {
    const controller = new TestController(config);
    await controller.#listen();
    return controller;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Ends every connection and refuses new ones. */
  async goAway(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async comeBack(): Promise<void> {
    this.#server = this.#create();
    await this.#listen();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.goAway();
  }

  /** Resolves when `isSo` holds for what was reported so far. */
  async until(isSo: (reports: readonly ReportRequest[]) => boolean): Promise<void> {
    while (!isSo(this.reports)) await new Promise<void>((resolve) => this.#told.push(resolve));
  }

  #create(): Server {
    return createServer(
      connectNodeAdapter({
        routes: (router) =>
          router.service(WorkerService, {
            join: ({ token, rank, listenAddress }) => {
              this.#check(token);
              this.joins += 1;
              this.#addresses.set(rank, listenAddress);
              const ranks = Array.from({ length: this.worldSize }, (_, index) => index);
              const missingRanks = ranks.filter((index) => !this.#addresses.has(index));
              const peers =
                missingRanks.length === 0 && this.worldSize > 1
                  ? ranks.map((index) => this.#addresses.get(index) ?? "")
                  : [];
              return { directive: Directive.CONTINUE, configJson: this.#configJson, peers, missingRanks };
            },
            report: (report) => {
              this.#check(report.token);
              this.reports.push(report);
              for (const tell of this.#told.splice(0)) tell();
              return { directive: this.directive };
            },
          }),
      }),
    );
  }

  #check(token: string): void {
    if (token !== this.token)
      throw new ConnectError("this attempt's token is not valid any more", Code.PermissionDenied);
  }

  async #listen(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(this.#port, "127.0.0.1", resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }
}
