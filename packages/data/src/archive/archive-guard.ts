import { posix } from "node:path";
import { InvalidError, TooLargeError } from "@drydock/kit";

/** What an archive may hold at most. */
export interface ArchiveLimits {
  readonly entries: number;
  /** Of all files together, unpacked. */
  readonly totalBytes: number;
  /** Of one file, unpacked. */
  readonly entryBytes: number;
  /** Unpacked bytes per byte of the archive, looked at beyond `ratioFreeBytes`. */
  readonly ratio: number;
  readonly ratioFreeBytes: number;
}

export const defaultArchiveLimits: ArchiveLimits = {
  entries: 1_000_000,
  totalBytes: 100 * 2 ** 30,
  entryBytes: 2 * 2 ** 30,
  ratio: 200,
  ratioFreeBytes: 64 * 2 ** 20,
};

export type ArchiveEntryKind = "file" | "directory" | "link" | "other";

/** Watches one unpacking: every entry and every unpacked byte passes here before it reaches the disk. */
export class ArchiveGuard {
  readonly #archiveBytes: number;
  readonly #limits: ArchiveLimits;
  #entries = 0;
  #totalBytes = 0;

  constructor(archiveBytes: number, limits: ArchiveLimits) {
    this.#archiveBytes = archiveBytes;
    this.#limits = limits;
  }

  get unpackedBytes(): number {
    return this.#totalBytes;
  }

  /**
   * Admits an entry; answers its clean relative path, null for a folder.
   *
   * @param declaredBytes  what the entry says its size is: one that says too much is refused before anything is read
   * @throws InvalidError `unsafe_archive_entry`, TooLargeError `archive_too_large`
   */
  admit(name: string, kind: ArchiveEntryKind, declaredBytes: number): string | null {
    this.#entries += 1;
    if (this.#entries > this.#limits.entries)
      throw tooLarge(`the archive holds more than ${this.#limits.entries} entries: split it into several data sets`);
    const path = name.replaceAll("\\", "/").replace(/^(?:\.\/)+/, "");
    if (path.startsWith("/") || /^[a-z]:/i.test(path))
      throw unsafe(`entry "${name}" of the archive has an absolute path: pack the folder with relative paths`);
    if (path.split("/").includes("..") || path.includes("\0"))
      throw unsafe(`entry "${name}" of the archive leads out of its folder: pack the folder again without "../" paths`);
    if (kind === "link")
      throw unsafe(
        `entry "${name}" of the archive is a link: pack the file itself (tar: --dereference, zip: without -y)`,
      );
    if (kind === "other")
      throw unsafe(`entry "${name}" of the archive is neither a file nor a folder: pack only files`);
    if (kind === "directory" || path === "" || path.endsWith("/")) return null;
    this.#check(name, declaredBytes, this.#totalBytes + declaredBytes);
    return posix.normalize(path);
  }

  /** Counts unpacked bytes of an entry. @throws TooLargeError `archive_too_large`, `archive_bomb` */
  count(name: string, entryBytes: number, chunkBytes: number): void {
    this.#totalBytes += chunkBytes;
    this.#check(name, entryBytes, this.#totalBytes);
  }

  /** Counts bytes out of a decompressor, whether or not they belong to an entry. @throws TooLargeError `archive_bomb` */
  countStream(totalBytes: number): void {
    this.#checkRatio("its end", totalBytes);
  }

  #check(name: string, entryBytes: number, totalBytes: number): void {
    const { entryBytes: mostOfEntry, totalBytes: most } = this.#limits;
    if (entryBytes > mostOfEntry)
      throw tooLarge(
        `entry "${name}" of the archive unpacks to more than ${inMebibytes(mostOfEntry)}: leave it out or split it`,
      );
    if (totalBytes > most)
      throw tooLarge(
        `the archive unpacks to more than ${inMebibytes(most)} (at entry "${name}"): split it into several data sets`,
      );
    this.#checkRatio(`entry "${name}"`, totalBytes);
  }

  #checkRatio(place: string, totalBytes: number): void {
    const { ratio, ratioFreeBytes } = this.#limits;
    if (totalBytes <= ratioFreeBytes || totalBytes <= ratio * this.#archiveBytes) return;
    throw new TooLargeError(
      "archive_bomb",
      `the archive unpacks to more than ${ratio} times its size (at ${place}), as a decompression bomb does: pictures do not shrink so far. Leave the entry out, or upload the files themselves`,
    );
  }
}

function unsafe(message: string): InvalidError {
  return new InvalidError("unsafe_archive_entry", message);
}

function tooLarge(message: string): TooLargeError {
  return new TooLargeError("archive_too_large", message);
}

function inMebibytes(bytes: number): string {
  return bytes >= 2 ** 20 ? `${Math.round(bytes / 2 ** 20)} MiB` : `${bytes} bytes`;
}
