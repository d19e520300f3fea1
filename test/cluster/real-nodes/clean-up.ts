import { execFile } from "node:child_process";
import { readFile, readdir, readlink, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { identityOf } from "../../../services/controller/src/backend/process-identity.ts";
import { readRealNodeState, realNodeFolders } from "./real-node-state.ts";
import { removePodNetwork } from "./pod-network.ts";

const run = promisify(execFile);
const cgroupRoot = "/sys/fs/cgroup";

/**
 * Takes away what real nodes left on this computer outside their processes: containers, shims, mounts, network name
 * spaces, control groups. Kubelets and containerd must have ended. Works from what lies in the cluster's folder, so
 * that another process can do it when the one that started the cluster was killed.
 */
export async function cleanUpRealNodes(folder: string): Promise<void> {
  const nodes = await realNodeFolders(folder);
  const states = await Promise.all(nodes.map(readRealNodeState));
  if (states.length === 0) return;
  for (const { cgroup, socket } of states) {
    await endProcessesOf(cgroup);
    await endShimsOf(socket);
  }
  await unmountUnder(folder);
  for (const bridge of new Set(states.map((state) => state.bridge))) await removePodNetwork(bridge);
  for (const { cgroup } of states) await removeCgroup(cgroup);
  await removeLogLinks(folder);
}

/** Ends every process in the node's control group: pods, whatever they started. */
async function endProcessesOf(cgroup: string): Promise<void> {
  const folders = await groupsOf(cgroup);
  const files = await Promise.all(folders.map((folder) => readIfThere(join(folder, "cgroup.procs"))));
  const ids = new Set(files.flatMap((text) => text.split("\n").filter(Boolean).map(Number)));
  await endAll([...ids]);
}

/** The shims of containerd outlive it by design. They are known by the socket in their arguments. */
async function endShimsOf(socket: string): Promise<void> {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const shims: number[] = [];
  for (const id of ids)
    if ((await readIfThere(`/proc/${id}/cmdline`)).split("\0").includes(socket)) shims.push(Number(id));
  await endAll(shims);
}

async function endAll(ids: readonly number[]): Promise<void> {
  for (const id of ids) {
    try {
      process.kill(id, "SIGKILL");
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  }
  for (const id of ids) while ((await identityOf(id)) !== null) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Innermost first. */
async function unmountUnder(folder: string): Promise<void> {
  const points = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${folder}/`));
  for (const point of points.toReversed()) await run("umount", ["--lazy", point]);
}

async function groupsOf(cgroup: string): Promise<string[]> {
  const found: string[] = [];
  for (const controller of await readdir(cgroupRoot)) {
    const root = join(cgroupRoot, controller, cgroup);
    const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
    if (entries.length === 0) continue;
    found.push(
      root,
      ...entries.filter((entry) => entry.isDirectory()).map(({ parentPath, name }) => join(parentPath, name)),
    );
  }
  return found;
}

async function removeCgroup(cgroup: string): Promise<void> {
  for (const folder of (await groupsOf(cgroup)).toSorted((a, b) => b.length - a.length))
    await rmdir(folder).catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    });
}

/** The kubelet links logs of containers into a folder of the system, whatever it is told. */
async function removeLogLinks(folder: string): Promise<void> {
  const links = "/var/log/containers";
  for (const name of await readdir(links).catch(() => []))
    if ((await readlink(join(links, name)).catch(() => "")).startsWith(folder)) await rm(join(links, name));
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && ["ENOENT", "ESRCH"].includes(String(error.code))) return "";
    throw error;
  }
}
