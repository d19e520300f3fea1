import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identityOf } from "./backend/process-identity.ts";

const main = join(import.meta.dirname, "main.ts");
let folder: string;
const running = new Set<ChildProcess>();

beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "drydock-controller-"))));
afterEach(async () => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
  await rm(folder, { recursive: true, force: true });
});

function start(program: string, parameters: string[], environment: Record<string, string> = {}): ChildProcess {
  const child = spawn(program, parameters, {
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"] ?? "", ...environment },
  });
  running.add(child);
  return child;
}

/** A worker that an earlier controller left running, written down as the local back end does. */
async function leaveWorker(name: string): Promise<ChildProcess> {
  const worker = start("sleep", ["600"]);
  const entry = { ...(await identityOf(worker.pid ?? 0)), logKey: "log", memoryLimitBytes: null };
  await mkdir(join(folder, "state", "pods"), { recursive: true });
  await writeFile(join(folder, "state", "pods", `${name}.json`), JSON.stringify(entry));
  return worker;
}

/** An api that is away: whoever asks is told to try again. */
async function startApi(): Promise<{ api: Server; url: string }> {
  const api = createServer((_, answer) => answer.writeHead(503).end());
  api.listen(0, "127.0.0.1");
  await once(api, "listening");
  const { port } = api.address() as AddressInfo;
  return { api, url: `http://127.0.0.1:${port}` };
}

test("a controller that is told to end before the Temporal server answers stops the workers that it found", async () => {
  const { api, url } = await startApi();
  const worker = await leaveWorker("run_1-a1-r0");
  const workerEnd = once(worker, "exit");
  const controller = start(process.execPath, [main], {
    TEMPORAL_ADDRESS: "127.0.0.1:1",
    DRYDOCK_API_URL: url,
    DRYDOCK_INTERNAL_KEY: "internal-key-of-a-test",
    STORAGE_URL: pathToFileURL(join(folder, "storage")).href,
    MODELS_DIRECTORY: folder,
    DRYDOCK_CONTROLLER_STATE: join(folder, "state"),
    DRYDOCK_LOG_LEVEL: "silent",
  });
  const controllerEnd = once(controller, "exit");
  // It asks what became of the worker's run long before it can reach Temporal.
  await once(api, "request");
  controller.kill("SIGTERM");
  expect(await controllerEnd).toEqual([0, null]);
  expect(await workerEnd).toEqual([null, "SIGTERM"]);
  api.close();
});

test("a request to end that comes while the controller loads is heard: workers that were found are stopped", async () => {
  const { api, url } = await startApi();
  const worker = await leaveWorker("run_1-a1-r0");
  const workerEnd = once(worker, "exit");
  const askAtOnce = `process.on("newListener", (name) => name === "SIGTERM" && queueMicrotask(() => process.kill(process.pid, "SIGTERM")))`;
  const controller = start(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(askAtOnce)}`, main],
    environmentOf(url, { STORAGE_URL: pathToFileURL(join(folder, "storage")).href }),
  );
  expect(await once(controller, "exit")).toEqual([0, null]);
  expect(await workerEnd).toEqual([null, "SIGTERM"]);
  api.close();
});

test("a controller with wrong settings of object storage says which before it takes work", async () => {
  const { api, url } = await startApi();
  const controller = spawn(process.execPath, [main], {
    stdio: ["ignore", "ignore", "pipe"],
    env: environmentOf(url, { STORAGE_URL: "s3://bucket", S3_ENDPOINT: "http://127.0.0.1:1", S3_REGION: "eu" }),
  });
  running.add(controller);
  let told = "";
  controller.stderr.setEncoding("utf8").on("data", (chunk: string) => (told += chunk));
  expect(await once(controller, "exit")).toEqual([1, null]);
  expect(told).toMatch(/^drydock controller: .*S3_ACCESS_KEY_ID/);
  api.close();
});

function environmentOf(url: string, further: Record<string, string>): Record<string, string> {
  return {
    PATH: process.env["PATH"] ?? "",
    TEMPORAL_ADDRESS: "127.0.0.1:1",
    DRYDOCK_API_URL: url,
    DRYDOCK_INTERNAL_KEY: "internal-key-of-a-test",
    MODELS_DIRECTORY: folder,
    DRYDOCK_CONTROLLER_STATE: join(folder, "state"),
    DRYDOCK_LOG_LEVEL: "silent",
    ...further,
  };
}
