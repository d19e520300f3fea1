import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger, FolderStorage } from "@drydock/kit";
import { LocalProcesses, type LocalProcess } from "./local-processes.ts";

// A worker in two lines: it says what it was given, then does as it is told.
const worker = `
console.log(process.argv[2], process.env.DRYDOCK_RUN_ID, process.env.SECRET_OF_THE_CONTROLLER);
const kept = [];
const does = {
  finish: () => process.exit(0),
  refuse: () => process.exit(65),
  wait: () => { process.on("SIGTERM", () => process.exit(143)); setInterval(() => {}, 1000); },
  eat: () => { setInterval(() => kept.push(Buffer.alloc(32e6, 1)), 20); },
};
does[process.env.DOES]();
`;

let root: string;
let storage: FolderStorage;
let program: string;
const pods: LocalProcess[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-backend-"));
  storage = new FolderStorage(join(root, "store"));
  program = join(root, "worker.cjs");
  await writeFile(program, worker);
  process.env["SECRET_OF_THE_CONTROLLER"] = "secret";
});
afterEach(async () => {
  delete process.env["SECRET_OF_THE_CONTROLLER"];
  for (const pod of pods.splice(0)) {
    pod.kill();
    await pod.ended;
  }
  await rm(root, { recursive: true, force: true });
});

function controller(): LocalProcesses {
  const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });
  return new LocalProcesses({ command: [process.execPath, program], directory: join(root, "pods"), storage, logger });
}

async function start(
  backend: LocalProcesses,
  does: string,
  memoryLimitBytes: number | null = null,
): Promise<LocalProcess> {
  const environment = { DRYDOCK_RUN_ID: "run_1", DOES: does };
  const pod = await backend.start({
    name: "run_1-a1-r0",
    environment,
    memoryLimitBytes,
    logKey: "runs/run_1/attempts/1/rank-0.log",
  });
  pods.push(pod);
  return pod;
}

async function log(): Promise<string> {
  return Buffer.from(await storage.get("runs/run_1/attempts/1/rank-0.log")).toString();
}

test("a pod runs with its own environment, its exit code is seen, its log is in storage", async () => {
  const pod = await start(controller(), "finish");
  expect(await pod.ended).toEqual({ exitCode: 0, signal: null, reason: "exited" });
  expect(await log()).toBe("rank run_1 undefined\n");
  expect(await readdir(join(root, "pods"))).toEqual(["run_1-a1-r0.log"]);
});

test("exit codes and signals are told apart", async () => {
  expect(await (await start(controller(), "refuse")).ended).toMatchObject({ exitCode: 65, signal: null });
  const killed = await start(controller(), "wait");
  killed.kill();
  expect(await killed.ended).toMatchObject({ exitCode: null, signal: "SIGKILL", reason: "exited" });
});

test("a pod that is asked to stop ends in its own way", async () => {
  const pod = await start(controller(), "wait");
  await vi.waitUntil(async () => (await readFile(join(root, "pods", "run_1-a1-r0.log"), "utf8")) !== "");
  pod.stop();
  expect(await pod.ended).toMatchObject({ exitCode: 143 });
});

test("a pod over its memory limit is ended as out of memory", async () => {
  const pod = await start(controller(), "eat", 250e6);
  expect(await pod.ended).toMatchObject({ reason: "out-of-memory", signal: "SIGKILL" });
});

test("starting the same name twice starts one", async () => {
  const backend = controller();
  expect(await start(backend, "wait")).toBe(await start(backend, "wait"));
  expect(await backend.list()).toHaveLength(1);
});

test("a controller that starts again finds its pods, and forgets those that ended meanwhile once their log is kept", async () => {
  const first = await start(controller(), "wait");
  const second = controller();
  const found = await second.find("run_1-a1-r0");
  expect((await second.list()).map(({ name }) => name)).toEqual(["run_1-a1-r0"]);
  found?.kill();
  await first.ended;
  expect(await found?.ended).toEqual({ exitCode: null, signal: null, reason: "vanished" });
  expect(await second.find("run_1-a1-r0")).toBeNull();
});

test("another process that got the id of a dead pod is not taken for it", async () => {
  const backend = controller();
  await (
    await start(backend, "finish")
  ).ended;
  const entry = {
    pid: process.pid,
    startTime: "1",
    logKey: "runs/run_1/attempts/1/rank-0.log",
    memoryLimitBytes: null,
  };
  await writeFile(join(root, "pods", "run_1-a1-r0.json"), JSON.stringify(entry));
  expect(await backend.find("run_1-a1-r0")).toBeNull();
  expect(await readdir(join(root, "pods"))).toEqual(["run_1-a1-r0.log"]);
});

test("a program that cannot be started is a pod that vanished", async () => {
  const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });
  const backend = new LocalProcesses({
    command: [join(root, "nothing-here")],
    directory: join(root, "pods"),
    storage,
    logger,
  });
  expect(await (await start(backend, "finish")).ended).toMatchObject({ exitCode: null, reason: "vanished" });
});
