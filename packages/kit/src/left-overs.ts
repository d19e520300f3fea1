import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { fateOfMark } from "./process-mark.ts";

/** What was left by a process that cannot be looked up (another machine, another container) is left-over after so long. */
const abandonedAfterMs = 24 * 3_600_000;

/**
 * Removes the files and folders that processes which are gone left in a folder.
 *
 * @param markOf  mark of the process in a name, from `markOfThisProcess`; null for what is nobody's to remove
 */
export async function removeLeftOvers(folder: string, markOf: (name: string) => string | null): Promise<void> {
  for (const name of await namesIn(folder)) {
    const mark = markOf(name);
    if (mark === null) continue;
    const path = join(folder, name);
    const fate = fateOfMark(mark);
    if (fate === "gone" || (fate === "unknown" && (await isOlderThan(path, abandonedAfterMs))))
      await rm(path, { recursive: true, force: true });
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

async function isOlderThan(path: string, ageMs: number): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > ageMs;
  } catch (error) {
    if (isMissing(error)) return false; // its process put it in place meanwhile
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
