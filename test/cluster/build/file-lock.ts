import { spawn } from "node:child_process";
import { once } from "node:events";

/**
 * Runs `work` while this process alone holds the lock on a file (flock), whichever process asks. The kernel lets go of
 * it when the holder dies.
 */
export async function withFileLock<T>(file: string, work: () => Promise<T>): Promise<T> {
  const holder = spawn("flock", ["--exclusive", file, "sh", "-c", "echo held; cat"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(holder, "exit");
  const first = await Promise.race([once(holder.stdout, "data"), ended.then(() => null)]);
  if (first === null) throw new Error(`cannot lock ${file}`);
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await ended;
  }
}
