import { readFile, readdir } from "node:fs/promises";
import type { LiveWorker } from "./site.ts";

/**
 * Worker processes of this computer, known by their own environment, from the system's table of processes. Those of pods
 * are among them. One that has ended and was only not yet waited for has no environment any more.
 *
 * @param mark  a part of the environment that only the wanted ones have
 */
export async function workerProcesses(mark: string): Promise<(LiveWorker & { readonly pid: number })[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const found = await Promise.all(pids.map(async (pid) => await workerOf(pid, mark)));
  return found.filter((worker) => worker !== null);
}

async function workerOf(pid: string, mark: string): Promise<(LiveWorker & { readonly pid: number }) | null> {
  const text = await readFile(`/proc/${pid}/environ`, "utf8").catch(() => "");
  if (!text.includes(mark)) return null;
  const environment = new Map(
    text.split("\0").map((line): [string, string] => {
      const [name = "", ...value] = line.split("=");
      return [name, value.join("=")];
    }),
  );
  const [runId, epoch] = [environment.get("DRYDOCK_RUN_ID"), environment.get("DRYDOCK_EPOCH")];
  if (runId === undefined || epoch === undefined) return null;
  return {
    pid: Number(pid),
    runId,
    epoch: Number(epoch),
    rank: Number(environment.get("DRYDOCK_RANK") ?? 0),
    node: environment.get("DRYDOCK_NODE") ?? null,
  };
}
