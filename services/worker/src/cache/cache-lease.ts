import { randomBytes } from "node:crypto";
import { mkdir, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fateOfMark, markOfThisProcess } from "@drydock/kit";
import { isMissing } from "./missing.ts";

/** How often a lease says that its process lives. */
const beatIntervalMs = 30_000;
/** A lease of a process that cannot be looked up (another container, another boot) and has been silent for so long is over. */
const silentAfterMs = 15 * 60_000;

const beatName = "alive";

/**
 * A folder of one process in the cache: whatever is linked into it is in use. It ends with the process: `close` removes
 * it, and the next process that needs room removes those of processes that were killed.
 */
export class CacheLease {
  readonly directory: string;
  readonly #beat: NodeJS.Timeout;

  private constructor(directory: string) {
    this.directory = directory;
    this.#beat = setInterval(() => void touch(join(directory, beatName)), beatIntervalMs);
    this.#beat.unref();
  }

  static async take(leasesDirectory: string): Promise<CacheLease> {
    const directory = join(leasesDirectory, `${markOfThisProcess()}.${randomBytes(6).toString("hex")}`);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, beatName), "");
    return new CacheLease(directory);
  }

  async close(): Promise<void> {
    clearInterval(this.#beat);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** Removes the leases of processes that are gone. */
export async function endAbandonedLeases(leasesDirectory: string): Promise<void> {
  for (const name of await readdir(leasesDirectory)) {
    const directory = join(leasesDirectory, name);
    const fate = fateOfMark(name.split(".")[0] ?? "");
    if (fate === "gone" || (fate === "unknown" && (await isSilent(directory))))
      await rm(directory, { recursive: true, force: true });
  }
}

async function isSilent(directory: string): Promise<boolean> {
  try {
    return Date.now() - (await stat(join(directory, beatName))).mtimeMs > silentAfterMs;
  } catch (error) {
    if (isMissing(error)) return Date.now() - ((await timeOf(directory)) ?? Date.now()) > silentAfterMs;
    throw error;
  }
}

async function timeOf(directory: string): Promise<number | null> {
  try {
    return (await stat(directory)).mtimeMs;
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** A beat that cannot be written is made up for by the next; a removed lease needs none. */
async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined);
}
