import { execFile, spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { access, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { HeadBucketCommand, CreateBucketCommand, S3Client, S3ServiceException } from "@aws-sdk/client-s3";
import type { S3Options } from "../src/storage/s3-options.ts";

const run = promisify(execFile);

/** Module version of the S3 server of the tests; the reference's `kubernetes-and-temporal.md` builds the same. */
export const versitygwVersion = "1.7.0";

const readyWithinMs = 20_000;
const startTries = 3;

/** Runs a server until standard input ends, then kills it with SIGKILL: it never outlives the test, however that ends. */
const tetheredServer = 'exec 3<&0; "$@" & server=$!; (cat <&3 >/dev/null; kill -9 $server) & wait $server';

/** A real S3 server (Versity's gateway over a folder) on a free port of this computer. It can be killed and come back. */
export class Versitygw {
  readonly folder: string;
  readonly accessKeyId = "drydock-test";
  readonly secretAccessKey = randomBytes(12).toString("hex");
  readonly region: string;
  readonly port: number;
  readonly #accounts: string | null;
  #child: ChildProcess | null = null;

  private constructor(folder: string, accounts: string | null, port: number, region: string) {
    this.folder = folder;
    this.#accounts = accounts;
    this.port = port;
    this.region = region;
  }

  /** Starts a server with a bucket `bucket`; with accounts, it knows others than the root one. */
  static async start({ region = "us-east-1", hasAccounts = false } = {}): Promise<Versitygw> {
    const folder = await mkdtemp(join(tmpdir(), "drydock-versitygw-"));
    const accounts = hasAccounts ? await mkdtemp(join(tmpdir(), "drydock-versitygw-accounts-")) : null;
    for (let tries = 1; ; tries++) {
      const server = new Versitygw(folder, accounts, await freePort(), region);
      try {
        await server.up();
        await server.createBucket("bucket");
        return server;
      } catch (error) {
        await server.kill();
        if (tries === startTries) throw error; // another process may have taken the port meanwhile
      }
    }
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Settings of a client without retries of the SDK's own, so that a test sees each failure. */
  options(changes: Partial<S3Options> = {}): S3Options {
    return {
      bucket: "bucket",
      prefix: "",
      endpoint: this.url,
      region: this.region,
      credentials: { accessKeyId: this.accessKeyId, secretAccessKey: this.secretAccessKey },
      forcePathStyle: true,
      maximumTries: 1,
      partBudgetMs: 0,
      ...changes,
    };
  }

  /** The same for a process. */
  environment(endpoint = this.url): Record<string, string> {
    return {
      S3_ENDPOINT: endpoint,
      S3_REGION: this.region,
      S3_ACCESS_KEY_ID: this.accessKeyId,
      S3_SECRET_ACCESS_KEY: this.secretAccessKey,
    };
  }

  async createBucket(name: string): Promise<void> {
    await this.#client().send(new CreateBucketCommand({ Bucket: name }));
  }

  /** An account that may do nothing until a bucket's policy lets it. Needs a server with accounts. */
  async createUser(access: string, secret: string): Promise<void> {
    const root = ["--access", this.accessKeyId, "--secret", this.secretAccessKey, "--endpoint-url", this.url];
    const user = ["create-user", "--access", access, "--secret", secret, "--role", "user"];
    await run(await ensureVersitygw(), ["admin", ...root, ...user]);
  }

  async up(): Promise<void> {
    const accounts = this.#accounts === null ? [] : ["--iam-dir", this.#accounts];
    const place = ["--port", `127.0.0.1:${this.port}`, ...accounts, "posix", this.folder];
    const child = spawn("sh", ["-c", tetheredServer, "sh", await ensureVersitygw(), ...place], {
      stdio: ["pipe", "ignore", "pipe"],
      env: {
        PATH: process.env["PATH"],
        ROOT_ACCESS_KEY: this.accessKeyId,
        ROOT_SECRET_KEY: this.secretAccessKey,
        VGW_REGION: this.region,
        VGW_QUIET: "true",
      },
    });
    child.stdin.once("error", () => undefined); // it ended before it was told to
    child.once("exit", () => child.stdin.destroy());
    this.#child = child;
    let complaint = "";
    child.stderr.on("data", (chunk: Buffer) => (complaint += chunk.toString()));
    const deadline = performance.now() + readyWithinMs;
    while (!(await this.#answers())) {
      if (child.exitCode !== null) throw new Error(`versitygw ended: ${complaint}`);
      if (performance.now() > deadline) throw new Error(`versitygw does not answer on port ${this.port}: ${complaint}`);
      await delay(50);
    }
  }

  /** kill -9. What was acknowledged stays in the folder. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.stdin?.destroy();
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    for (const folder of [this.folder, this.#accounts])
      if (folder !== null) await rm(folder, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    try {
      await this.#client().send(new HeadBucketCommand({ Bucket: "bucket" }));
      return true;
    } catch (error) {
      return error instanceof S3ServiceException;
    }
  }

  #client(): S3Client {
    return new S3Client({
      endpoint: this.url,
      region: this.region,
      forcePathStyle: true,
      maxAttempts: 1,
      credentials: { accessKeyId: this.accessKeyId, secretAccessKey: this.secretAccessKey },
    });
  }
}

/** The server's program, from the tool cache; built from its Go module when it is not there (about three minutes on two cores). */
export async function ensureVersitygw(): Promise<string> {
  const cache =
    process.env["DRYDOCK_TOOLS"] ??
    join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "drydock", "tools");
  const folder = join(cache, `versitygw-${versitygwVersion}`);
  const program = join(folder, "versitygw");
  if (await exists(program)) return program;
  await mkdir(folder, { recursive: true });
  const building = await mkdtemp(join(folder, "building-"));
  try {
    await run(
      "go",
      ["install", "-trimpath", "-ldflags", "-s -w", `github.com/versity/versitygw/cmd/versitygw@v${versitygwVersion}`],
      {
        env: { ...process.env, GOBIN: building, CGO_ENABLED: "0" },
        maxBuffer: 1 << 26,
      },
    );
    await rename(join(building, "versitygw"), program);
  } finally {
    await rm(building, { recursive: true, force: true });
  }
  return program;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
