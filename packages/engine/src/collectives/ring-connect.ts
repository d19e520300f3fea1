import { createConnection, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { InvalidError, messageOf } from "@drydock/kit";
import { PeerLostError } from "./collective.ts";
import { ExactReader } from "./exact-reader.ts";
import {
  answerBytes,
  helloBytes,
  helloFault,
  isAnswerGood,
  welcomeBytes,
  welcomeFault,
  writeAnswer,
  writeHello,
  writeWelcome,
  type RingIdentity,
} from "./handshake.ts";
import { RingLink } from "./ring-link.ts";

/** Strangers that may be in the middle of a handshake at once. */
const pendingLimit = 16;
const handshakeMs = 10_000;
const retryMs = 100;

/** Where the next rank connects to: opened before the other ranks are known. */
export class RingListener {
  readonly #server: Server;
  readonly #host: string;
  #waiting: Socket[] = [];
  #take: ((socket: Socket) => void) | null = null;

  private constructor(server: Server, host: string) {
    this.#server = server;
    this.#host = host;
    server.on("connection", (socket) => {
      socket.on("error", () => undefined); // its close says the same
      if (this.#take) return this.#take(socket);
      if (this.#waiting.length >= pendingLimit) return socket.destroy();
      socket.pause();
      this.#waiting.push(socket);
    });
  }

  /** Listens on `host`, on a free port unless one is given. */
  static async open(host: string, port = 0): Promise<RingListener> {
    const server = createServer();
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, host, resolve);
    });
    return new RingListener(server, host);
  }

  /** `host:port` for the others. */
  get address(): string {
    const { port } = this.#server.address() as AddressInfo;
    return this.#host.includes(":") ? `[${this.#host}]:${port}` : `${this.#host}:${port}`;
  }

  /** Waits for rank `peer`; whoever else connects is refused and changes nothing. Ends when `signal` says so. */
  async accept(identity: RingIdentity, peer: number, signal: AbortSignal): Promise<RingLink> {
    return await new Promise((resolve, reject) => {
      let pending = 0;
      let refused = "";
      const done = (): void => {
        this.#take = null;
        signal.removeEventListener("abort", aborted);
      };
      const aborted = (): void => {
        done();
        const strangers = refused === "" ? "" : `; a connection was refused: ${refused}`;
        reject(new PeerLostError(peer, `it did not connect in time${strangers}`));
      };
      signal.addEventListener("abort", aborted);
      const take = (socket: Socket): void => {
        if (pending >= pendingLimit) return void socket.destroy();
        pending += 1;
        welcome(socket, identity, peer, (result) => {
          pending -= 1;
          if (typeof result === "string") {
            refused = result;
            return;
          }
          done();
          resolve(result);
        });
      };
      this.#take = take;
      for (const socket of this.#waiting.splice(0)) take(socket);
    });
  }

  /** Listens no more. Links that were made stay. */
  close(): void {
    for (const socket of this.#waiting.splice(0)) socket.destroy();
    this.#take = (socket) => socket.destroy();
    this.#server.close();
  }
}

/** The acceptor's half of the handshake: a link, or why the stranger was refused. */
function welcome(
  socket: Socket,
  identity: RingIdentity,
  peer: number,
  settle: (result: RingLink | string) => void,
): void {
  const reader = new ExactReader();
  let isSettled = false;
  const settleOnce = (result: RingLink | string): void => {
    if (isSettled) return;
    isSettled = true;
    clearTimeout(timer);
    if (typeof result === "string") socket.destroy();
    settle(result);
  };
  const timer = setTimeout(() => settleOnce("it said nothing"), handshakeMs);
  socket.once("close", () => settleOnce("it hung up"));
  const hello = Buffer.alloc(helloBytes);
  const answer = Buffer.alloc(answerBytes);
  reader.expect(hello, () => {
    const fault = helloFault(hello, identity, peer);
    reader.expect(answer, () => undefined);
    if (fault !== null) return settleOnce(fault);
    const welcomed = writeWelcome(hello, identity);
    socket.write(welcomed);
    reader.expect(answer, () => {
      if (isAnswerGood(answer, hello, welcomed, identity.token))
        return settleOnce(new RingLink(socket, reader, peer, identity.epoch, performance.now()));
      reader.expect(answer, () => undefined);
      settleOnce("it does not know the attempt's token");
    });
  });
  socket.on("data", (chunk: Buffer) => {
    if (!socket.destroyed) reader.push(chunk);
  });
  socket.resume();
}

/** Connects to rank `peer` at `address`, again and again until it answers or `signal` says that it has taken too long. */
export async function dial(
  address: string,
  identity: RingIdentity,
  peer: number,
  signal: AbortSignal,
): Promise<RingLink> {
  let lastFault = "it did not answer";
  while (!signal.aborted) {
    try {
      return await dialOnce(address, identity, peer, signal);
    } catch (error) {
      lastFault = messageOf(error);
      await pause(signal);
    }
  }
  throw new PeerLostError(peer, `it could not be reached at ${address}: ${lastFault}`);
}

async function dialOnce(address: string, identity: RingIdentity, peer: number, signal: AbortSignal): Promise<RingLink> {
  const reader = new ExactReader();
  const { host, port } = parseAddress(address);
  const hello = writeHello(identity);
  const welcomed = Buffer.alloc(welcomeBytes);
  return await new Promise((resolve, reject) => {
    let link: RingLink | null = null;
    const socket = createConnection({
      host,
      port,
      onread: {
        buffer: () => reader.room(),
        callback: (count) => {
          reader.advance(count);
          return true;
        },
      },
    });
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    };
    const fail = (why: string): void => {
      if (link) return;
      settle();
      socket.destroy();
      reject(new Error(why));
    };
    const timer = setTimeout(() => fail("it did not answer in time"), handshakeMs);
    const aborted = (): void => fail("it did not answer");
    signal.addEventListener("abort", aborted);
    reader.expect(welcomed, () => {
      const fault = welcomeFault(welcomed, hello, identity.token, peer);
      reader.expect(Buffer.alloc(1), () => undefined);
      if (fault !== null) return fail(fault);
      socket.write(writeAnswer(hello, welcomed, identity.token));
      link = new RingLink(socket, reader, peer, identity.epoch, performance.now());
      settle();
      resolve(link);
    });
    socket.once("connect", () => socket.write(hello));
    socket.once("error", (error) => fail(error.message));
    socket.once("close", () => fail("it hung up"));
  });
}

async function pause(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(over, retryMs);
    function over(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", over);
      resolve();
    }
    signal.addEventListener("abort", over);
  });
}

/** @throws InvalidError when it is not `host:port` */
function parseAddress(address: string): { host: string; port: number } {
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(address) ?? [];
  if (host === undefined || port === undefined || Number(port) > 65_535)
    throw new InvalidError("bad_address", `"${address}" is not an address of a rank: it should be host:port`);
  return { host, port: Number(port) };
}
