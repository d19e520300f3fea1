import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const bytesPerMiB = 2 ** 20;

/** Memory of the GPUs that this process holds, as the driver counts it; null where the driver does not tell. */
export async function gpuMemoryOfThisProcess(): Promise<number | null> {
  const query = ["--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"];
  const { stdout } = await run("nvidia-smi", query);
  const own = stdout.split("\n").flatMap((line) => {
    const [pid, used] = line.split(",").map(Number);
    return pid === process.pid && Number.isFinite(used) ? [used as number] : [];
  });
  return own.length === 0 ? null : own.reduce((sum, used) => sum + used, 0) * bytesPerMiB;
}

/** Names of the GPUs of this computer; empty where there is none, or no driver. */
export async function gpuNames(): Promise<string[]> {
  try {
    const { stdout } = await run("nvidia-smi", ["--query-gpu=name", "--format=csv,noheader"]);
    return stdout.split("\n").filter((line) => line !== "");
  } catch (error) {
    // No driver, or one without a GPU: both mean that there is nothing to measure.
    if (error instanceof Error) return [];
    throw error;
  }
}
