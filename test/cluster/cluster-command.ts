/*
 * A cluster that stays up, for trying things by hand.
 *
 *   node test/cluster/cluster-command.ts up [--nodes N]     starts it, unless it runs
 *   node test/cluster/cluster-command.ts down               ends it
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { messageOf } from "@drydock/kit";
import { identityOf } from "../../services/controller/src/backend/process-identity.ts";
import { programOf } from "./build/tools.ts";
import { Cluster, connectionIn, defaultNodes, type ClusterConnection } from "./cluster.ts";
import { cleanUpCluster } from "./janitor.ts";

const folder = resolve(import.meta.dirname, "..", "..", ".drydock", "cluster");
/** What the owner prints when everything runs. */
const ready = "ready";
const { positionals, values } = parseArgs({ allowPositionals: true, options: { nodes: { type: "string" } } });

switch (positionals[0]) {
  case "up":
    await up(values.nodes);
    break;
  case "down":
    await down();
    break;
  case "serve":
    await serve(Number(values.nodes));
    break;
  default:
    console.error("usage: cluster-command.ts up [--nodes N] | down");
    process.exitCode = 64;
}

async function up(wanted: string | undefined): Promise<void> {
  const nodes = Number(wanted ?? "4");
  if (!Number.isInteger(nodes) || nodes < 1) {
    console.error(`--nodes ${wanted}: give a whole number of simulated nodes, 1 or more`);
    process.exitCode = 64;
    return;
  }
  const running = await runningCluster();
  if (running !== null) {
    console.log("the cluster runs already; `make cluster-down` ends it");
    return printUse(running);
  }
  await cleanUpCluster(folder); // what a killed one left
  const owner = spawn(process.execPath, [import.meta.filename, "serve", "--nodes", String(nodes)], {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = once(owner, "exit");
  for await (const line of createInterface({ input: owner.stdout })) {
    if (line === ready) break;
    console.log(line);
  }
  const started = await runningCluster();
  if (started === null) {
    await ended;
    process.exitCode = 1;
    return;
  }
  owner.stdout.destroy();
  owner.unref();
  printUse(started);
}

/** The process that owns the servers, until it is told to end. */
async function serve(nodes: number): Promise<void> {
  try {
    await mkdir(folder, { recursive: true });
    const [h100] = defaultNodes;
    const shapes = h100 === undefined ? [] : [{ ...h100, count: nodes }];
    const isRoot = process.getuid?.() === 0;
    const tell = (line: string): void => console.log(line);
    const cluster = await Cluster.start({ folder, nodes: shapes, realNodes: isRoot ? 1 : 0, kueue: isRoot, tell });
    if (cluster.connection.missing !== null) console.log(`no real node: ${cluster.connection.missing}`);
    console.log(ready);
    const stay = setInterval(() => {}, 60_000);
    await Promise.race([once(process, "SIGTERM"), once(process, "SIGINT")]);
    clearInterval(stay);
    await cluster[Symbol.asyncDispose]();
  } catch (error) {
    console.error(`the cluster did not start: ${messageOf(error)}`);
    process.exitCode = 1;
  }
}

async function down(): Promise<void> {
  const running = await runningCluster();
  if (running !== null) {
    process.kill(running.ownerPid, "SIGTERM");
    while ((await identityOf(running.ownerPid)) !== null) await delay(50);
  }
  await cleanUpCluster(folder);
  console.log(running === null ? "no cluster runs" : "the cluster is down");
}

async function runningCluster(): Promise<ClusterConnection | null> {
  const connection = await connectionIn(folder);
  return connection !== null && (await identityOf(connection.ownerPid)) !== null ? connection : null;
}

function printUse({ realNodes }: ClusterConnection): void {
  console.log(`\nreal nodes: ${realNodes.join(", ") || "none"}`);
  console.log(`export KUBECONFIG=${folder}/admin.kubeconfig`);
  console.log(`${programOf("kubernetes", "kubectl")} get nodes`);
}
