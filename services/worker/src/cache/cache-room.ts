import { readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isMissing } from "./missing.ts";

/** One file of the cache: it lies under `objects`, in leases, or both. */
interface Occupant {
  readonly sizeBytes: number;
  readonly usedAtMs: number;
  /** Its place under `objects`; null for what only leases hold: files on their way, and entries that were replaced. */
  path: string | null;
  isInUse: boolean;
}

export interface Occupancy {
  readonly usedBytes: number;
  /** What nobody uses, least recently used first. */
  readonly evictable: readonly { readonly path: string; readonly sizeBytes: number }[];
}

/** Looks at everything in the cache. A file that is linked from a lease is in use; links of one file count once. */
export async function occupancyOf(objectsDirectory: string, leasesDirectory: string): Promise<Occupancy> {
  const occupants = new Map<bigint, Occupant>();
  for await (const file of filesBelow(objectsDirectory))
    occupants.set(file.inode, { ...file, isInUse: file.links > 1n });
  for await (const file of filesBelow(leasesDirectory)) {
    const known = occupants.get(file.inode);
    if (known) known.isInUse = true;
    else occupants.set(file.inode, { ...file, path: null, isInUse: true });
  }
  const all = [...occupants.values()];
  return {
    usedBytes: all.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    evictable: all
      .filter((occupant): occupant is Occupant & { path: string } => !occupant.isInUse && occupant.path !== null)
      .sort((a, b) => a.usedAtMs - b.usedAtMs),
  };
}

/** Removes what nobody uses, least recently used first, until `neededBytes` fit below the limit. Answers the bytes in the cache then. */
export async function makeRoom(occupancy: Occupancy, limitBytes: number, neededBytes: number): Promise<number> {
  let { usedBytes } = occupancy;
  for (const { path, sizeBytes } of occupancy.evictable) {
    if (usedBytes + neededBytes <= limitBytes) break;
    // A process that linked the file a moment ago keeps it: only the entry goes.
    await unlinkIfThere(path);
    usedBytes -= sizeBytes;
  }
  return usedBytes;
}

export async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}

interface FoundFile {
  readonly path: string;
  readonly inode: bigint;
  readonly links: bigint;
  readonly sizeBytes: number;
  readonly usedAtMs: number;
}

async function* filesBelow(directory: string): AsyncGenerator<FoundFile> {
  let names: string[];
  try {
    names = await readdir(directory, { recursive: true });
  } catch (error) {
    if (isMissing(error)) return; // another process ended its lease
    throw error;
  }
  for (const name of names) {
    const path = join(directory, name);
    try {
      const found = await stat(path, { bigint: true });
      if (!found.isFile()) continue;
      yield {
        path,
        inode: found.ino,
        links: found.nlink,
        sizeBytes: Number(found.size),
        usedAtMs: Number(found.atimeMs),
      };
    } catch (error) {
      if (!isMissing(error)) throw error;
    }
  }
}
