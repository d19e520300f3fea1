/*
 * Cleans up behind a cluster whose owner was killed before it could.
 *
 *   node test/cluster/janitor.ts FOLDER     ends what runs out of the folder, and removes it
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { toolCache } from "../../services/cli/src/up/temporal-server.ts";
import { withFileLock } from "./build/file-lock.ts";
import { cleanUpRealNodes } from "./real-nodes/clean-up.ts";

/** A process that waits for this one's end and then cleans up. Returns how to send it home. */
export function postJanitor(folder: string): () => void {
  const waiting = `cat >/dev/null; [ ! -d "$2" ] || exec "$1" "$0" "$2"`;
  const janitor = spawn("sh", ["-c", waiting, import.meta.filename, process.execPath, folder], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true, // Ctrl-C in a terminal must not reach it
  });
  janitor.unref();
  return () => janitor.stdin?.end();
}

/** Ends every server of a cluster, known by its folder among the arguments, and takes away what it left. */
export async function cleanUpCluster(folder: string): Promise<void> {
  await mkdir(toolCache(), { recursive: true });
  await withFileLock(join(toolCache(), "clean-up.lock"), async () => {
    if (existsSync(folder)) await endAndRemove(folder);
  });
}

async function endAndRemove(folder: string): Promise<void> {
  for (const id of await readdir("/proc"))
    if (/^\d+$/.test(id) && Number(id) !== process.pid && (await isServerOf(folder, id)))
      process.kill(Number(id), "SIGKILL");
  await cleanUpRealNodes(folder);
  await rm(folder, { recursive: true, force: true });
}

const servers = /\/(kube-apiserver|kube-controller-manager|kube-scheduler|kubelet|etcd|kwok|kueue|jobset|containerd)$/;

async function isServerOf(folder: string, id: string): Promise<boolean> {
  const words = await readFile(`/proc/${id}/cmdline`, "utf8").catch(() => ""); // it may end while it is looked at
  return servers.test(words.split("\0")[0] ?? "") && words.includes(`${folder}/`);
}

if (import.meta.main && process.argv[2] !== undefined) await cleanUpCluster(process.argv[2]);
