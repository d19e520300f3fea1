import { chmod, link, mkdir, open, rename, stat, statfs, truncate, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { InvalidError, UnavailableError, messageOf } from "@drydock/kit";
import { digestOfFile } from "../checkpoint/write-checkpoint.ts";
import { CacheLease, endAbandonedLeases } from "./cache-lease.ts";
import { makeRoom, occupancyOf, unlinkIfThere } from "./cache-room.ts";
import { fetchOnce } from "./fetch-lock.ts";
import { isMissing } from "./missing.ts";

/** What is wanted, by its content. */
export interface CachedContent {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  /** What it is, for messages: `picture weld.png`, `model file model.safetensors`. */
  readonly what: string;
}

export interface NodeCacheOptions {
  readonly directory: string;
  /** Bytes that the cache may hold, files in use included; null = four fifths of its disk. */
  readonly limitBytes: number | null;
}

/** Every entry has this modification time: whatever writes to it afterwards shows. 2001-09-09T01:46:40Z. */
const entryTime = new Date(1_000_000_000_000);
/** The cache is looked through again after this share of its limit was fetched. */
const shareBetweenLooks = 1 / 64;

/**
 * Files of object storage on the disk of this node, by their SHA-256, shared by all processes on it.
 *
 *     objects/ab/abcd…   one file per content, read-only
 *     leases/<process>/  links of one process to the files it uses: what is linked is never removed
 *     locks/abcd…        held by the process that fetches
 *
 * A file is checked against its digest after it was fetched and when a process uses it for the first time; after that
 * its size and modification time tell whether it was touched. A damaged file is fetched again. When a file does not fit,
 * files that nobody uses go, least recently used first.
 */
export class NodeCache {
  readonly #directory: string;
  /** Bytes that the cache may hold, files in use included. */
  readonly limitBytes: number;
  readonly #lease: CacheLease;
  readonly #underWay = new Map<string, Promise<string>>();
  readonly #verified = new Set<string>();
  /** Bytes in the cache when it was last looked through, and what this process has fetched since. */
  #knownBytes = Number.POSITIVE_INFINITY;
  #fetchedBytes = 0;

  private constructor(directory: string, limitBytes: number, lease: CacheLease) {
    this.#directory = directory;
    this.limitBytes = limitBytes;
    this.#lease = lease;
  }

  /** @throws InvalidError `cache_unusable` when the folder cannot be written */
  static async open({ directory, limitBytes }: NodeCacheOptions): Promise<NodeCache> {
    try {
      for (const name of ["objects", "locks", "leases"]) await mkdir(join(directory, name), { recursive: true });
      await endAbandonedLeases(join(directory, "leases"));
      const lease = await CacheLease.take(join(directory, "leases"));
      return new NodeCache(directory, limitBytes ?? (await shareOfDisk(directory)), lease);
    } catch (error) {
      if (isDiskFull(error)) throw error;
      throw new InvalidError(
        "cache_unusable",
        `the cache folder ${directory} cannot be used (${messageOf(error)}): let DRYDOCK_CACHE name a folder that the worker may write`,
        { cause: error },
      );
    }
  }

  /** The folder of this process, where `fileIn` puts its links. */
  get directory(): string {
    return this.#lease.directory;
  }

  /** Gives up everything that this process uses. */
  async close(): Promise<void> {
    await this.#lease.close();
  }

  /**
   * Path of a file with this content, which stays until `close`.
   *
   * @param name   path below the folder of this process; the same name means the same content
   * @param fetch  writes the content to a path
   * @throws InvalidError `cache_too_small`, `object_differs`; UnavailableError `cache_full`, `storage_full`; those of `fetch`
   */
  async fileIn(name: string, content: CachedContent, fetch: (path: string) => Promise<void>): Promise<string> {
    const started = this.#underWay.get(name);
    if (started) return await started;
    const obtained = this.#obtain(join(this.directory, name), content, fetch);
    this.#underWay.set(name, obtained);
    try {
      return await obtained;
    } catch (error) {
      this.#underWay.delete(name);
      throw error;
    }
  }

  async #obtain(target: string, content: CachedContent, fetch: (path: string) => Promise<void>): Promise<string> {
    await mkdir(dirname(target), { recursive: true });
    await fetchOnce(
      join(this.#directory, "locks", content.sha256),
      async () => await this.#reuse(target, content),
      async () => await this.#fetch(target, content, fetch),
    );
    return target;
  }

  /** Links the entry to `target` when it is there and whole. The link comes first: from then on nobody evicts it. */
  async #reuse(target: string, content: CachedContent): Promise<boolean> {
    const entry = this.#entryPath(content.sha256);
    try {
      await link(entry, target);
    } catch (error) {
      if (isMissing(error)) return false;
      if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error; // linked before
    }
    if (await this.#isWhole(target, content)) {
      await utimes(target, new Date(), entryTime);
      return true;
    }
    await unlinkIfThere(target);
    await unlinkIfThere(entry);
    return false;
  }

  async #isWhole(path: string, { sha256, sizeBytes }: CachedContent): Promise<boolean> {
    const found = await stat(path);
    if (found.size !== sizeBytes || found.mtimeMs !== entryTime.getTime()) return false;
    if (this.#verified.has(sha256)) return true;
    if ((await digestOfFile(path)) !== sha256) return false;
    this.#verified.add(sha256);
    return true;
  }

  async #fetch(target: string, content: CachedContent, fetch: (path: string) => Promise<void>): Promise<void> {
    const { sha256, sizeBytes } = content;
    await this.#reserve(content);
    const partial = `${target}.partial`;
    try {
      await this.#write(partial, content, fetch);
      const digest = await digestOfFile(partial);
      if (digest !== sha256)
        throw new InvalidError(
          "object_differs",
          `${content.what} in storage is not what it was when it was stored (sha256 ${digest.slice(0, 12)}…, expected ${sha256.slice(0, 12)}…): import or publish it again`,
        );
      await chmod(partial, 0o444);
      await utimes(partial, new Date(), entryTime);
      await link(partial, target);
      const entry = this.#entryPath(sha256);
      await mkdir(dirname(entry), { recursive: true });
      await rename(partial, entry);
      this.#verified.add(sha256);
      this.#fetchedBytes += sizeBytes;
    } finally {
      await unlinkIfThere(partial);
    }
  }

  /** Fetches to a path whose size is already taken up, so that other processes count it; makes room once when the disk is full. */
  async #write(path: string, content: CachedContent, fetch: (path: string) => Promise<void>): Promise<void> {
    await (await open(path, "w")).close();
    await truncate(path, content.sizeBytes);
    try {
      await fetch(path);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      await this.#evict(content.sizeBytes, 0);
      try {
        await fetch(path);
      } catch (again) {
        throw isDiskFull(again) ? this.#full(content, again) : again;
      }
    }
  }

  /** @throws InvalidError or UnavailableError when the file cannot fit */
  async #reserve(content: CachedContent): Promise<void> {
    const { limitBytes } = this;
    const directory = this.#directory;
    const { sizeBytes, what } = content;
    if (sizeBytes > limitBytes)
      throw new InvalidError(
        "cache_too_small",
        `${what} has ${inGibibytes(sizeBytes)}, and the cache ${directory} may hold ${inGibibytes(limitBytes)}: raise DRYDOCK_CACHE_GIB`,
      );
    const sinceLook = this.#fetchedBytes + sizeBytes;
    if (sinceLook < limitBytes * shareBetweenLooks && this.#knownBytes + sinceLook <= limitBytes) return;
    await this.#evict(sizeBytes, limitBytes);
    if (this.#knownBytes + sizeBytes > limitBytes)
      throw new UnavailableError(
        "cache_full",
        `${what} of ${inGibibytes(sizeBytes)} does not fit into the cache ${directory}: of its ${inGibibytes(limitBytes)}, ${inGibibytes(this.#knownBytes)} are in use by workers; raise DRYDOCK_CACHE_GIB, or wait until one ends`,
      );
  }

  async #evict(neededBytes: number, limitBytes: number): Promise<void> {
    const leases = join(this.#directory, "leases");
    await endAbandonedLeases(leases);
    const occupancy = await occupancyOf(join(this.#directory, "objects"), leases);
    this.#knownBytes = await makeRoom(occupancy, limitBytes, neededBytes);
    this.#fetchedBytes = 0;
  }

  #full({ what, sizeBytes }: CachedContent, cause: unknown): UnavailableError {
    return new UnavailableError(
      "storage_full",
      `the disk of the cache ${this.#directory} is full: ${what} of ${inGibibytes(sizeBytes)} was not fetched; free space, or let DRYDOCK_CACHE name a folder on a larger disk`,
      { cause },
    );
  }

  #entryPath(sha256: string): string {
    return join(this.#directory, "objects", sha256.slice(0, 2), sha256);
  }
}

async function shareOfDisk(directory: string): Promise<number> {
  const { bsize, blocks } = await statfs(directory);
  return Math.floor(bsize * blocks * 0.8);
}

function isDiskFull(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOSPC" || code === "EDQUOT" || code === "storage_full" || code === "disk_full";
}

function inGibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 3 : 1)} GiB`;
}
