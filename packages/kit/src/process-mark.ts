import { readFileSync, readlinkSync } from "node:fs";

/**
 * Names this process for as long as the machine runs, in a file name: boot, process-id namespace, process id, start
 * time. What carries the mark of a process that is gone was left behind and may be cleaned up.
 */
export function markOfThisProcess(): string {
  return (ownMark ??= readMark());
}

let ownMark: string | undefined;

/** What is known of the process that left a mark; `unknown` when it ran on another machine, in another container, or on a system without /proc. */
export function fateOfMark(mark: string): "alive" | "gone" | "unknown" {
  const [boot, namespace, processId, startTime] = mark.split("-");
  const [ownBoot, ownNamespace] = markOfThisProcess().split("-");
  if (boot === noMark || boot !== ownBoot || namespace !== ownNamespace || processId === undefined) return "unknown";
  return startTimeOf(processId) === startTime ? "alive" : "gone";
}

const noMark = "0";

function readMark(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").slice(0, 8);
    const namespace = /\d+/.exec(readlinkSync("/proc/self/ns/pid"))?.[0] ?? noMark;
    return [boot, namespace, process.pid, startTimeOf(String(process.pid)) ?? noMark].join("-");
  } catch {
    return [noMark, noMark, process.pid, noMark].join("-"); // no /proc: age alone tells what was left behind
  }
}

/** Field 22 of /proc/<pid>/stat, clock ticks since boot; null when there is no such process. */
function startTimeOf(processId: string): string | null {
  try {
    const stat = readFileSync(`/proc/${processId}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
