import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { UnavailableError } from "@drydock/kit";
import type { Connection } from "@drydock/cli";
import { z } from "zod";

const cliMain = resolve(import.meta.dirname, "../services/cli/src/main.ts");
const ConnectionFile = z.object({ url: z.string(), key: z.string() });

/** `drydock up` as a process of its own, as a person would start it. */
export interface DemoServer extends Connection {
  /** Ctrl-C: closes in order. */
  close(): Promise<void>;
}

/** Starts the server and waits for its ready line. @throws UnavailableError with the server's own last words */
export async function startServer(stateDirectory: string, tell: (line: string) => void): Promise<DemoServer> {
  const child = spawn(process.execPath, ["--no-warnings", cliMain, "up", "--state", stateDirectory, "--port", "0"], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const lines: string[] = [];
  const connectionFile = join(stateDirectory, "connection.json");
  const said = (line: string): void => {
    lines.push(line);
    if (!line.includes("Drydock is ready")) tell(line);
  };
  createInterface({ input: child.stderr }).on("line", said);
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    said(line);
    if (line.includes("Drydock is ready")) ready.resolve();
  });
  const exit = once(child, "exit");
  await Promise.race([
    ready.promise,
    exit.then(() =>
      Promise.reject(
        new UnavailableError("server_not_started", `the server did not start:\n${lines.slice(-8).join("\n")}`),
      ),
    ),
  ]);
  const { url, key } = ConnectionFile.parse(JSON.parse(await readFile(connectionFile, "utf8")));
  return { url, key, close: () => close(child, exit) };
}

async function close(child: ChildProcess, exit: Promise<unknown>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGINT");
  await exit;
}
