import { join } from "node:path";
import {
  FolderStorage,
  InvalidError,
  NotFoundError,
  inParallel,
  messageOf,
  retryUnavailable,
  sha256,
  type ObjectStorage,
  type RetryPolicy,
} from "@drydock/kit";
import { StoredModel, storedModelManifestName, type DataRecord, type RecordImage } from "@drydock/spec";
import { translateDiskError } from "../disk-error.ts";
import { BadDataError } from "../failure.ts";
import { readRecords } from "../rows/read-records.ts";
import { NodeCache, type CachedContent, type NodeCacheOptions } from "./node-cache.ts";

/** Files of one model that are fetched at once; each is fetched in parallel parts besides. */
const filesAtOnce = 3;

/**
 * What a worker reads from storage, as files on this machine. In a storage that is a folder here, pictures and records
 * are read where they lie; anything else is fetched into the cache of the node.
 */
export class NodeFiles {
  readonly #storage: ObjectStorage;
  readonly #cacheOptions: NodeCacheOptions;
  readonly #diskRetry: RetryPolicy;
  #cache: Promise<NodeCache> | null = null;

  constructor(storage: ObjectStorage, cacheOptions: NodeCacheOptions, diskRetry: RetryPolicy) {
    this.#storage = storage;
    this.#cacheOptions = cacheOptions;
    this.#diskRetry = diskRetry;
  }

  /** Gives up what is in use; the files stay for others until room is needed. */
  async close(): Promise<void> {
    await (await this.#cache)?.close();
  }

  /** Path of a picture's file. @throws BadDataError when storage has no such picture, or another one under its key */
  async pathOf(image: RecordImage): Promise<string> {
    const { localPath } = this.#storage;
    if (localPath) {
      if ((await this.#storage.head(image.key)) === null) throw missingPicture(image);
      return localPath.call(this.#storage, image.key);
    }
    try {
      const content = { ...image, what: `picture ${image.fileName} (${image.key})` };
      return await this.#fetch(join("root", image.key), image.key, content);
    } catch (error) {
      if (error instanceof NotFoundError) throw missingPicture(image, error);
      throw error instanceof InvalidError ? new BadDataError(error.message, { cause: error }) : error;
    }
  }

  /**
   * All records of a data-set version, in file order.
   *
   * @param digest  SHA-256 of the file; unknown = it is read from storage and not kept
   * @throws BadDataError as `readRecords`
   */
  async records(key: string, digest: string | null | undefined): Promise<DataRecord[]> {
    if (this.#storage.localPath || digest === null || digest === undefined)
      return await readRecords(this.#storage, key);
    const info = await this.#storage.head(key);
    if (info === null) return await readRecords(this.#storage, key); // says that it is missing
    try {
      await this.#fetch(join("root", key), key, {
        sizeBytes: info.sizeBytes,
        sha256: digest,
        what: `data file ${key}`,
      });
    } catch (error) {
      throw error instanceof InvalidError ? new BadDataError(error.message, { cause: error }) : error;
    }
    return await readRecords(new FolderStorage(join((await this.#open()).directory, "root")), key);
  }

  /**
   * Folder of a model that storage keeps.
   *
   * @param modelKey  key of the model without a slash at its end; its last part is the digest of the manifest
   * @throws NotFoundError or InvalidError naming the file that is missing or not what the manifest says
   */
  async model(modelKey: string): Promise<string> {
    const files = await this.#modelFiles(modelKey);
    const folder = join("models", modelKey.split("/").at(-1)!);
    await inParallel(files.length, filesAtOnce, async (index) => {
      const { name, key = `${modelKey}/${name}`, ...content } = files[index]!;
      await this.#fetch(join(folder, name), key, { ...content, what: `model file ${name} (${key})` });
    });
    return join((await this.#open()).directory, folder);
  }

  async #modelFiles(modelKey: string): Promise<StoredModel["files"]> {
    const key = `${modelKey}/${storedModelManifestName}`;
    const text = Buffer.from(await this.#storage.get(key)).toString();
    if (sha256(text) !== modelKey.split("/").at(-1))
      throw new InvalidError("damaged_model", `${key} is not what its key says: remove it, so that it is stored again`);
    try {
      return StoredModel.parse(JSON.parse(text)).files;
    } catch (error) {
      throw new InvalidError(
        "damaged_model",
        `${key} is no list of model files (${messageOf(error).split("\n")[0]}): are controller and worker of the same version?`,
        { cause: error },
      );
    }
  }

  async #fetch(name: string, key: string, content: CachedContent): Promise<string> {
    return await retryUnavailable(`fetch ${content.what}`, this.#diskRetry, async () => {
      const cache = await this.#open();
      try {
        return await cache.fileIn(name, content, async (path) => await this.#storage.getFile(key, path));
      } catch (error) {
        throw translateDiskError(this.#cacheOptions.directory, error);
      }
    });
  }

  async #open(): Promise<NodeCache> {
    const opened = (this.#cache ??= NodeCache.open(this.#cacheOptions));
    try {
      return await opened;
    } catch (error) {
      this.#cache = null;
      throw translateDiskError(this.#cacheOptions.directory, error);
    }
  }
}

function missingPicture({ fileName, key }: RecordImage, cause?: unknown): BadDataError {
  return new BadDataError(
    `picture ${fileName} (${key}) is not in storage: import the data set again`,
    cause === undefined ? {} : { cause },
  );
}
