#!/usr/bin/env node
// The program is TypeScript that Node 24 runs as it is. This file must run under older versions too: it finds a Node that
// can, the one that npm installed, and hands over to it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const neededMajor = 24;
const folder = dirname(fileURLToPath(import.meta.url));

if (Number(process.versions.node.split(".")[0]) >= neededMajor) await import("./main.ts");
else handOver(installedNode(folder));

/** The Node of the nearest node_modules above; null when there is none. */
function installedNode(start) {
  for (let path = start; path !== dirname(path); path = dirname(path)) {
    const found = join(path, "node_modules", "node", "bin", "node");
    if (existsSync(found)) return found;
  }
  return null;
}

function handOver(node) {
  if (node === null) {
    process.stderr.write(
      `drydock needs Node ${neededMajor} or newer and this is ${process.versions.node}: run npm install in the project's folder, which brings it, or put a newer node on PATH\n`,
    );
    process.exitCode = 1;
    return;
  }
  const child = spawn(node, [join(folder, "main.ts"), ...process.argv.slice(2)], { stdio: "inherit" });
  // A terminal sends Ctrl-C to the whole group, so the child has it already; a supervisor's signal comes to us alone.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  child.once("error", (error) => {
    process.stderr.write(`drydock: ${node} cannot be started: ${error.message}\n`);
    process.exitCode = 1;
  });
  child.once("exit", (code, signal) => {
    process.exitCode = code ?? (signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : 1);
  });
}
