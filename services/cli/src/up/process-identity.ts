import { readFileSync } from "node:fs";

/** A process by id and start time (clock ticks after boot): ids are used again, the pair is not. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

/** Identity of a live process; null when there is none. */
export function identityOf(pid: number): ProcessIdentity | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? null : { pid, startTime: fields[19] ?? "" };
  } catch {
    return null;
  }
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identityOf(identity.pid)?.startTime === identity.startTime;
}
