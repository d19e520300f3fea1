import { readFile } from "node:fs/promises";

/** A process as the system knows it. Process ids are used again; the start time tells two of the same id apart. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks after boot, from /proc/<pid>/stat. */
  readonly startTime: string;
}

/** Identity of a live process, null when there is none (or it is a zombie that only waits to be collected). */
export async function identityOf(pid: number): Promise<ProcessIdentity | null> {
  const text = await readProcess(pid, "stat");
  if (text === null) return null;
  // The second field is the name in brackets and may hold anything; fields are counted behind it.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" ? null : { pid, startTime: fields[19] ?? "" };
}

export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  return (await identityOf(identity.pid))?.startTime === identity.startTime;
}

/** Resident memory in bytes, 0 when the process is gone. */
export async function residentBytes(pid: number): Promise<number> {
  const text = await readProcess(pid, "status");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(text ?? "")?.[1] ?? 0) * 1024;
}

async function readProcess(pid: number, file: "stat" | "status"): Promise<string | null> {
  try {
    return await readFile(`/proc/${pid}/${file}`, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "ESRCH")) return null;
    throw error;
  }
}
