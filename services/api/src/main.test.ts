import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Versitygw } from "@drydock/kit/versitygw";

const main = join(import.meta.dirname, "main.ts");
let folder = "";
const running = new Set<ChildProcessWithoutNullStreams>();

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-main-"));
});

afterAll(async () => {
  for (const child of running) child.kill("SIGKILL");
  await rm(folder, { recursive: true, force: true });
});

interface Started {
  readonly child: ChildProcessWithoutNullStreams;
  readonly firstLine: Promise<string>;
  readonly ended: Promise<number | null>;
  readonly errors: () => string;
}

function start(environment: Record<string, string>, ...nodeOptions: string[]): Started {
  const settings = {
    DRYDOCK_INTERNAL_KEY: "internal-key-of-a-test",
    PGLITE_DIRECTORY: join(folder, "database"),
    STORAGE_URL: pathToFileURL(join(folder, "storage")).href,
    TEMPORAL_ADDRESS: "127.0.0.1:1",
    DRYDOCK_LOG_LEVEL: "warn",
  };
  const child = spawn(process.execPath, [...nodeOptions, main], {
    env: { PATH: process.env["PATH"] ?? "", ...settings, ...environment },
  });
  running.add(child);
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const firstLine = new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    child.once("exit", () => reject(new Error(`ended: ${errors}`)));
  });
  firstLine.catch(() => undefined);
  return { child, firstLine, ended: once(child, "exit").then(([code]) => code as number | null), errors: () => errors };
}

test("the first start makes a key and says so in its one line; the next one keeps data and key, and SIGTERM ends it with 0", async () => {
  const first = start({});
  const ready = JSON.parse(await first.firstLine) as { ready: boolean; url: string; apiKey: string };
  expect(ready).toMatchObject({ ready: true, url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/) as unknown });
  const headers = { authorization: `Bearer ${ready.apiKey}`, "content-type": "application/json" };
  expect((await fetch(`${ready.url}/v1/datasets`, { method: "POST", headers, body: '{"name":"kept"}' })).status).toBe(
    201,
  );
  first.child.kill("SIGTERM");
  expect(await first.ended).toBe(0);

  const second = start({ DRYDOCK_PARENT_PIPE: "1" });
  const again = JSON.parse(await second.firstLine) as { url: string; apiKey?: string };
  expect(again.apiKey).toBeUndefined();
  expect((await fetch(`${again.url}/v1/datasets/kept`, { headers })).status).toBe(200);
  second.child.stdin.end();
  expect(await second.ended).toBe(0);
});

test("a request to end is heard while the server is still loading, and nothing is opened any more", async () => {
  const askAtOnce = `process.on("newListener", (name) => name === "SIGTERM" && queueMicrotask(() => process.kill(process.pid, "SIGTERM")))`;
  const database = join(folder, "not-opened");
  const early = start(
    { PGLITE_DIRECTORY: database },
    "--import",
    `data:text/javascript,${encodeURIComponent(askAtOnce)}`,
  );
  expect(await early.ended).toBe(0);
  expect(existsSync(database)).toBe(false);
});

test("a port in use is told in a sentence, with exit code 69", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const address = taken.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const api = start({ PORT: String(port), PGLITE_DIRECTORY: join(folder, "other-database") });
  expect(await api.ended).toBe(69);
  expect(api.errors()).toContain(`:${port}: another process listens there; stop it, or choose another PORT`);
  expect(api.errors()).not.toMatch(/^\s+at /m);
  taken.close();
});

test("a wrong configuration names the variable, with exit code 64", async () => {
  const api = start({ PORT: "web", DRYDOCK_INTERNAL_KEY: "" });
  expect(await api.ended).toBe(64);
  expect(api.errors()).toMatch(/PORT: .*number/);
  expect(api.errors()).toContain("DRYDOCK_INTERNAL_KEY: must be set");
});

test("storage that cannot be used is told in a sentence that names the setting, with exit code 64", async () => {
  await using server = await Versitygw.start();
  const s3 = { ...server.environment(), STORAGE_URL: "s3://elsewhere/team" };
  const missing = start({ ...s3, PGLITE_DIRECTORY: join(folder, "never") });
  expect(await missing.ended).toBe(64);
  expect(missing.errors()).toBe(
    `drydock api: storage has no bucket "elsewhere" at ${server.url}: create it, or correct the bucket in STORAGE_URL (s3://elsewhere)\n`,
  );
  const wrong = start({ ...s3, STORAGE_URL: "s3://bucket", S3_SECRET_ACCESS_KEY: "wrong" });
  expect(await wrong.ended).toBe(64);
  expect(wrong.errors()).toContain("S3_SECRET_ACCESS_KEY does not belong to the access key");
});
