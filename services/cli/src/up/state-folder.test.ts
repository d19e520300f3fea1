import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { identityOf, isAlive } from "./process-identity.ts";
import { freePort, StateFolder } from "./state-folder.ts";

let folder: string;
beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "drydock-state-"))));
afterEach(async () => await rm(folder, { recursive: true, force: true }));

async function writeLock(lock: object): Promise<void> {
  await writeFile(join(folder, "up.json"), JSON.stringify({ url: "", children: [], ...lock }));
}

test("a folder is taken once; the refusal names the process and the URL", async () => {
  const state = await StateFolder.take(folder);
  state.noteChildren([], "http://127.0.0.1:7420");
  await expect(StateFolder.take(folder)).rejects.toThrow(
    `drydock is up on ${folder} already (process ${process.pid}, http://127.0.0.1:7420): stop it there with Ctrl-C, or start another with --state FOLDER`,
  );
  state.release();
  await expect(StateFolder.take(folder)).resolves.toBeInstanceOf(StateFolder);
});

test("a lock of a process that is gone is taken over, also when its id is used again", async () => {
  await writeLock({ pid: process.pid, startTime: "1" });
  await StateFolder.take(folder);
  expect(JSON.parse(await readFile(join(folder, "up.json"), "utf8"))).toMatchObject(identityOf(process.pid) ?? {});
});

test("what a killed up left running is ended; a stranger with the same id is not", async () => {
  const orphan = spawn("sleep", ["600"], { stdio: "ignore" });
  const identity = identityOf(orphan.pid ?? 0);
  if (!identity) throw new Error("sleep did not start");
  const self = identityOf(process.pid);
  const ended = once(orphan, "exit");
  await writeLock({
    pid: 1,
    startTime: "gone",
    children: [
      { ...identity, name: "temporal" },
      { pid: process.pid, startTime: "another", name: "api" },
    ],
  });
  await StateFolder.take(folder);
  await ended;
  expect(isAlive(identity)).toBe(false);
  expect(self && isAlive(self)).toBe(true);
});

test("keys and ports stay the same from start to start; the files are the owner's alone", async () => {
  const state = await StateFolder.take(folder);
  const first = await state.settings(0);
  expect(await state.settings(0)).toEqual(first);
  expect(new Set(Object.values(first.ports)).size).toBe(3);
  state.writeConnection("http://127.0.0.1:1", first.apiKey);
  expect(JSON.parse(await readFile(join(folder, "connection.json"), "utf8"))).toEqual({
    url: "http://127.0.0.1:1",
    key: first.apiKey,
  });
  for (const file of ["connection.json", "settings.json"])
    expect((await stat(join(folder, file))).mode & 0o077).toBe(0);
});

test("a port that is in use is refused with what to do", async () => {
  const port = await freePort();
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  const state = await StateFolder.take(folder);
  await expect(state.settings(port)).rejects.toThrow(
    `port ${port} on 127.0.0.1 is in use by another program: choose one with --port, e.g. --port 0 for any free one`,
  );
  server.close();
});

test("the controller's port is one that is free where the controller listens", async () => {
  const state = await StateFolder.take(folder);
  const { controller } = (await state.settings(0, "127.0.0.2")).ports;
  const server = createServer().listen(controller, "127.0.0.2");
  await once(server, "listening");
  const again = await state.settings(0, "127.0.0.2");
  server.close();
  expect(again.ports.controller).not.toBe(controller);
});

test("a damaged settings file is named", async () => {
  await writeFile(join(folder, "settings.json"), "{");
  const state = await StateFolder.take(folder);
  await expect(state.settings(0)).rejects.toThrow(
    /settings\.json is damaged .*: remove it, or start with another --state FOLDER/,
  );
});

test.each([
  ["a file", async () => await writeFile(join(folder, "file"), "").then(() => join(folder, "file"))],
  ["no place for folders", async () => "/proc/drydock"],
])("a state folder that is %s is refused by name", async (_case, make) => {
  const path = await make();
  await expect(StateFolder.take(path)).rejects.toThrow(
    new RegExp(`^nothing can be kept in ${path} \\(.+\\): choose another folder with --state FOLDER$`),
  );
});
