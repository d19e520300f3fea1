import { createReadStream, type Dirent } from "node:fs";
import {
  copyFile,
  link,
  mkdir,
  open,
  readFile,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  type FileHandle,
} from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { dirname, join, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { Readable } from "node:stream";
import { NotFoundError, PreconditionFailedError, UnavailableError, messageOf } from "../errors.ts";
import { removeLeftOvers } from "../left-overs.ts";
import { markOfThisProcess } from "../process-mark.ts";
import { checkObjectKey, compareKeys } from "./object-key.ts";
import type { ObjectInfo, ObjectStorage, PutOptions } from "./object-storage.ts";

const temporaryFolder = ".tmp";
/** A folder may be removed with its last object while a file is placed in it, so many times in a row at most. */
const placeTries = 100;

/**
 * Object storage in a local folder: the embedded default. Puts are written aside, synced, then renamed into place. What
 * processes that were killed left aside is removed before the first put.
 */
export class FolderStorage implements ObjectStorage {
  readonly url: string;
  readonly #root: string;
  #tidied: Promise<void> | null = null;

  constructor(root: string) {
    this.#root = resolve(root);
    this.url = pathToFileURL(this.#root).href;
  }

  async put(key: string, content: Uint8Array | string, options: PutOptions = {}): Promise<void> {
    await this.#place(key, options, async (temporary) => {
      const file = await open(temporary, "wx");
      try {
        await file.writeFile(content);
        await file.sync();
      } finally {
        await file.close();
      }
    });
  }

  async putFile(key: string, path: string, options: PutOptions = {}): Promise<void> {
    await this.#place(key, options, async (temporary) => {
      await copyFile(path, temporary);
      const file = await open(temporary, "r+");
      try {
        await file.sync();
      } finally {
        await file.close();
      }
    });
  }

  async get(key: string): Promise<Uint8Array> {
    return await translate(key, async () => await readFile(this.#path(key)));
  }

  async read(key: string, range?: { readonly start: number; readonly endExclusive: number }): Promise<Readable> {
    const path = this.#path(key);
    await translate(key, async () => await stat(path));
    if (range && range.endExclusive <= range.start) return Readable.from([]);
    return createReadStream(path, range ? { start: range.start, end: range.endExclusive - 1 } : {});
  }

  async getFile(key: string, path: string): Promise<void> {
    await translate(key, async () => {
      await mkdir(dirname(path), { recursive: true });
      const temporary = `${path}.${randomBytes(6).toString("hex")}.part`;
      try {
        await copyFile(this.#path(key), temporary);
        await rename(temporary, path);
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  localPath(key: string): string {
    return this.#path(key);
  }

  async head(key: string): Promise<ObjectInfo | null> {
    try {
      const found = await stat(this.#path(key));
      return found.isFile() ? { key, sizeBytes: found.size, modifiedAt: found.mtime } : null;
    } catch (error) {
      if (isMissing(error)) return null;
      throw failure(key, error);
    }
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const slash = prefix.lastIndexOf("/");
    const folder = slash < 0 ? "" : prefix.slice(0, slash);
    const keys: string[] = [];
    await this.#collect(folder, keys);
    for (const key of keys.filter((candidate) => candidate.startsWith(prefix)).sort(compareKeys)) {
      const info = await this.head(key);
      if (info) yield info;
    }
  }

  async remove(key: string): Promise<void> {
    await translate(key, async () => {
      const path = this.#path(key);
      await rm(path, { force: true });
      await this.#removeEmptyFolders(dirname(path));
    });
  }

  /** Object storage has no folders: one goes with its last object. */
  async #removeEmptyFolders(folder: string): Promise<void> {
    for (let path = folder; path.startsWith(this.#root + sep); path = dirname(path)) {
      try {
        await rmdir(path);
      } catch (error) {
        if (codeOf(error) === "ENOTEMPTY" || codeOf(error) === "EEXIST") return;
        if (!isMissing(error)) throw error;
      }
    }
  }

  async #collect(folder: string, keys: string[]): Promise<void> {
    let entries: Dirent[];
    try {
      entries = await readdir(join(this.#root, folder), { withFileTypes: true });
    } catch (error) {
      if (isMissing(error)) return;
      throw failure(folder, error);
    }
    for (const entry of entries) {
      if (folder === "" && entry.name === temporaryFolder) continue;
      const key = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) await this.#collect(key, keys);
      else keys.push(key);
    }
  }

  async #place(key: string, options: PutOptions, write: (temporary: string) => Promise<void>): Promise<void> {
    const path = this.#path(key);
    const temporary = join(this.#root, temporaryFolder, `${markOfThisProcess()}.${randomBytes(12).toString("hex")}`);
    await translate(key, async () => {
      await (this.#tidied ??= removeLeftOvers(join(this.#root, temporaryFolder), (name) => name.split(".")[0] ?? ""));
      await mkdir(dirname(temporary), { recursive: true });
      try {
        await write(temporary);
        // `link` fails with EEXIST when the key is taken: the one atomic "create if absent".
        await inFolder(dirname(path), async () => await (options.ifNoneMatch ? link : rename)(temporary, path));
        await syncFolder(dirname(path));
      } finally {
        await rm(temporary, { force: true });
      }
    });
  }

  #path(key: string): string {
    return join(this.#root, checkObjectKey(key).split("/").join(sep));
  }
}

/** Makes the folder and places a file in it; again, when the folder went with its last object just then. */
async function inFolder(folder: string, place: () => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    await mkdir(folder, { recursive: true });
    try {
      return await place();
    } catch (error) {
      if (codeOf(error) !== "ENOENT" || tries === placeTries) throw error;
    }
  }
}

async function syncFolder(path: string): Promise<void> {
  let folder: FileHandle;
  try {
    folder = await open(path, "r");
  } catch (error) {
    if (isMissing(error)) return; // what was placed was removed already, and its folder with it
    throw error;
  }
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function translate<T>(key: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw failure(key, error);
  }
}

function isMissing(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function failure(key: string, error: unknown): Error {
  if (isMissing(error))
    return new NotFoundError("object_not_found", `there is no object "${key}" in storage`, { cause: error });
  switch (codeOf(error)) {
    case "EEXIST":
      return new PreconditionFailedError("object_exists", `object "${key}" exists already`, { cause: error });
    case "ENOSPC":
    case "EDQUOT":
      return new UnavailableError(
        "storage_full",
        `the disk is full: object "${key}" was not written; free space, then the run goes on by itself`,
        { cause: error },
      );
    case "EIO":
    case "EROFS":
    case "EACCES":
    case "EPERM":
      return new UnavailableError("storage_unavailable", `storage refused object "${key}": ${messageOf(error)}`, {
        cause: error,
      });
    default:
      return error instanceof Error ? error : new Error(String(error));
  }
}
