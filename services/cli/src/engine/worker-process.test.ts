import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runWorker } from "./worker-process.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-worker-process-"));
  // Writes its "checkpoint" when it is asked to end, and ends with the code of the signal, as the worker does.
  const end = (signal: string, code: number): string =>
    `process.on("${signal}", () => { console.log("saved after ${signal}"); clearInterval(alive); process.exitCode = ${code}; });`;
  const program = `const alive = setInterval(() => {}, 1000); ${end("SIGINT", 130)} ${end("SIGTERM", 143)} console.log("ready");`;
  await writeFile(join(folder, "worker.mjs"), program);
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));

test.each([
  ["SIGINT", "SIGINT", 130],
  ["SIGTERM", "SIGTERM", 143],
  ["SIGHUP", "SIGTERM", 143],
] as const)("%s is passed on to the worker once, which saves and ends with its code", async (signal, asked, code) => {
  const lines: string[] = [];
  const ended = runWorker({
    program: join(folder, "worker.mjs"),
    arguments: [],
    onLine: (line) => {
      lines.push(line);
      // To this process alone, as a supervisor does.
      if (line === "ready") process.emit(signal, signal);
    },
  });
  expect(await ended).toMatchObject({ exitCode: code });
  expect(lines).toEqual(["ready", `saved after ${asked}`]);
});
