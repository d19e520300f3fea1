import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { isAlive } from "./process-identity.ts";
import { freePort } from "./state-folder.ts";
import { SupervisedProcess, type ProcessPlan } from "./supervised-process.ts";

let folder: string;
let supervised: SupervisedProcess | null = null;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "drydock-supervised-"))));
afterEach(async () => {
  await supervised?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function plan(program: string): Promise<ProcessPlan> {
  return {
    name: "service",
    command: [process.execPath, "-e", program],
    environment: {},
    logPath: join(folder, "service.log"),
    port: await freePort(),
  };
}

const listening = (port: number): string =>
  `require("http").createServer((_, answer) => answer.end()).listen(${port}, "127.0.0.1")`;

test("a process that is killed is started again, and what ended it is in its log", async () => {
  const { port, ...rest } = await plan("");
  supervised = new SupervisedProcess(
    { ...rest, port, command: [process.execPath, "-e", listening(port)] },
    () => undefined,
  );
  await supervised.start();
  const first = supervised.identity;
  if (!first) throw new Error("nothing runs");
  process.kill(first.pid, "SIGKILL");
  await vi.waitUntil(() => supervised?.identity && supervised.identity.pid !== first.pid, { timeout: 10_000 });
  expect(await readFile(rest.logPath, "utf8")).toContain("service ended: SIGKILL");
});

test("a process that ends again and again is a failed start, told with the log that says why", async () => {
  const started = await plan(`console.error("no such table"); process.exit(3)`);
  supervised = new SupervisedProcess(started, () => undefined);
  await expect(supervised.start()).rejects.toThrow(`service ends again and again; its log is ${started.logPath}`);
  expect(await readFile(started.logPath, "utf8")).toContain("no such table\nservice ended: exit code 3");
});

test("a process that is stopped stays stopped", async () => {
  const { port, ...rest } = await plan("");
  supervised = new SupervisedProcess(
    { ...rest, port, command: [process.execPath, "-e", listening(port)] },
    () => undefined,
  );
  await supervised.start();
  const { identity } = supervised;
  await supervised.stop();
  expect(identity && isAlive(identity)).toBe(false);
  expect(supervised.identity).toBeNull();
});
