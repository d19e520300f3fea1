import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { access, constants, mkdir, statfs } from "node:fs/promises";
import { createRequire } from "node:module";
import { availableParallelism, freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import { messageOf } from "@drydock/kit";
import { formatBytes } from "../output/quantities.ts";
import { findTemporal } from "../up/temporal-server.ts";

/** What one check found. `missing` stops Drydock from working, `warning` does not. */
export interface Finding {
  readonly name: string;
  readonly status: "ok" | "warning" | "missing";
  /** What is there. */
  readonly found: string;
  /** How to get what is missing; empty when nothing is. */
  readonly remedy: string;
}

export interface DoctorOptions {
  readonly stateDirectory: string;
  readonly port: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

const gibibyte = 1024 ** 3;
const oldestNode = 24;

/** Looks for everything that Drydock needs on this computer. Never throws: what cannot be looked at is a finding. */
export async function examine(options: DoctorOptions): Promise<Finding[]> {
  const looked = await Promise.all([
    checkTemporal(options.environment),
    checkDisk(options.stateDirectory),
    checkSharp(),
    checkOnnxRuntime(),
    checkPort(options.port),
  ]);
  return [checkNode(), checkMemory(), checkCores(), ...looked];
}

function ok(name: string, found: string): Finding {
  return { name, status: "ok", found, remedy: "" };
}

function checkNode(): Finding {
  const major = Number(process.versions.node.split(".", 1)[0]);
  if (major >= oldestNode) return ok("node", process.version);
  return {
    name: "node",
    status: "missing",
    found: process.version,
    remedy: `Node ${oldestNode} or newer is needed: run npm install in the repository, which brings it, then npx drydock`,
  };
}

/** In the order in which `drydock up` looks: an address, a program, or Go to build one. */
async function checkTemporal(environment: DoctorOptions["environment"]): Promise<Finding> {
  const address = environment["TEMPORAL_ADDRESS"];
  if (address !== undefined && address !== "") return ok("temporal", `server at ${address} (TEMPORAL_ADDRESS)`);
  const program = await findTemporal(environment);
  if (program !== null) return ok("temporal", `${program} (${await versionOf(program, ["--version"])})`);
  try {
    return ok("temporal", `not there yet; the first drydock up builds it with ${await run("go", ["version"])}, once`);
  } catch {
    return {
      name: "temporal",
      status: "missing",
      found: "no temporal on PATH, no TEMPORAL_ADDRESS, and no go to build it with",
      remedy:
        "put the temporal command line tool on PATH, set TEMPORAL_ADDRESS to a running server, or install Go 1.26 or newer",
    };
  }
}

async function checkDisk(stateDirectory: string): Promise<Finding> {
  try {
    const folder = await nearestFolder(stateDirectory);
    await access(folder, constants.W_OK);
    const { bavail, bsize } = await statfs(folder);
    const freeBytes = bavail * bsize;
    const found = `${formatBytes(freeBytes)} free for ${stateDirectory}`;
    if (freeBytes >= 5 * gibibyte) return ok("disk", found);
    const remedy = "checkpoints need room: free some, or choose another folder with --state";
    return { name: "disk", status: freeBytes < gibibyte ? "missing" : "warning", found, remedy };
  } catch (error) {
    return {
      name: "disk",
      status: "missing",
      found: messageOf(error),
      remedy: `make ${stateDirectory} writable, or choose another folder with --state`,
    };
  }
}

async function nearestFolder(path: string): Promise<string> {
  for (let at = resolve(path); ; at = dirname(at)) {
    try {
      await access(at);
      return at;
    } catch {
      if (dirname(at) === at) await mkdir(at); // Cannot be: the root exists.
    }
  }
}

function checkMemory(): Finding {
  const found = `${formatBytes(totalmem())}, ${formatBytes(freemem())} free`;
  if (totalmem() >= 4 * gibibyte) return ok("memory", found);
  return {
    name: "memory",
    status: "warning",
    found,
    remedy:
      "4 GiB or more are advised: the server takes about 1 GiB, each training worker of the tiny model about 1 GiB",
  };
}

function checkCores(): Finding {
  const cores = availableParallelism();
  if (cores >= 2) return ok("cores", String(cores));
  return {
    name: "cores",
    status: "warning",
    found: String(cores),
    remedy: "with one core, training and serving slow each other down",
  };
}

async function checkSharp(): Promise<Finding> {
  try {
    const { default: sharp } = await import("sharp");
    await sharp({ create: { width: 4, height: 4, channels: 3, background: "#fff" } })
      .png()
      .toBuffer();
    return ok("sharp", `${sharp.versions.sharp ?? "present"}, libvips ${sharp.versions.vips}`);
  } catch (error) {
    return {
      name: "sharp",
      status: "missing",
      found: firstLine(messageOf(error)),
      remedy: "run npm install in the repository, without --omit=optional",
    };
  }
}

/** The engine's runtime belongs to the worker, so it is asked in a process of its own. */
async function checkOnnxRuntime(): Promise<Finding> {
  const remedy =
    "run ONNXRUNTIME_NODE_INSTALL=skip npm install in the repository (the skip avoids a large CUDA download)";
  try {
    const require = createRequire(new URL("../../../../packages/engine/package.json", import.meta.url));
    const entry = require.resolve("onnxruntime-node");
    const script = `const o=require(${JSON.stringify(entry)});console.log(o.env.versions.node??o.env.versions.common)`;
    const answer = await run(process.execPath, ["-e", script]);
    return ok("onnxruntime", answer);
  } catch (error) {
    return { name: "onnxruntime", status: "missing", found: firstLine(messageOf(error)), remedy };
  }
}

async function checkPort(port: number): Promise<Finding> {
  const { promise, resolve: settle } = Promise.withResolvers<Finding>();
  const server = createServer();
  server.once("error", (error: NodeJS.ErrnoException) => {
    const found = error.code === "EADDRINUSE" ? `${port} is in use` : `${port}: ${error.message}`;
    settle({
      name: "port",
      status: "warning",
      found,
      remedy: "a running drydock up, or another program, has it: choose another with drydock up --port",
    });
  });
  server.listen(port, "127.0.0.1", () => server.close(() => settle(ok("port", `${port} is free`))));
  return await promise;
}

async function versionOf(program: string, values: readonly string[]): Promise<string> {
  try {
    return await run(program, values);
  } catch (error) {
    return firstLine(messageOf(error));
  }
}

async function run(program: string, values: readonly string[]): Promise<string> {
  const { promise, resolve: settle, reject } = Promise.withResolvers<string>();
  execFile(program, [...values], { timeout: 20_000 }, (error, stdout) =>
    error ? reject(error) : settle(firstLine(stdout)),
  );
  return await promise;
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0] ?? "";
}
