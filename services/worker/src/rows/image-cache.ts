import { stat } from "node:fs/promises";
import { join } from "node:path";
import { NotFoundError, retryUnavailable, type ObjectStorage, type RetryPolicy } from "@drydock/kit";
import type { RecordImage } from "@drydock/spec";
import { translateDiskError } from "../disk-error.ts";
import { BadDataError } from "../failure.ts";

/** Pictures of a data set as files on this machine: those of a folder where they lie, others fetched from storage once. */
export class ImageCache {
  readonly #storage: ObjectStorage;
  readonly #directory: string;
  readonly #diskRetry: RetryPolicy;
  readonly #underWay = new Map<string, Promise<string>>();

  constructor(storage: ObjectStorage, directory: string, diskRetry: RetryPolicy) {
    this.#storage = storage;
    this.#directory = directory;
    this.#diskRetry = diskRetry;
  }

  /** Path of the picture's file. @throws BadDataError when storage has no such picture */
  async pathOf(image: RecordImage): Promise<string> {
    const started = this.#underWay.get(image.key);
    if (started) return await started;
    const fetched = this.#fetch(image);
    this.#underWay.set(image.key, fetched);
    try {
      return await fetched;
    } catch (error) {
      this.#underWay.delete(image.key);
      throw error;
    }
  }

  async #inPlace(image: RecordImage, path: string): Promise<string> {
    if ((await this.#storage.head(image.key)) === null) throw missing(image);
    return path;
  }

  async #fetch(image: RecordImage): Promise<string> {
    const { localPath } = this.#storage;
    if (localPath) return await this.#inPlace(image, localPath.call(this.#storage, image.key));
    const path = join(this.#directory, ...image.key.split("/"));
    if (await hasSize(path, image.sizeBytes)) return path;
    await retryUnavailable(`fetch picture ${image.fileName}`, this.#diskRetry, async () => {
      try {
        await this.#storage.getFile(image.key, path);
      } catch (error) {
        if (error instanceof NotFoundError) throw missing(image, error);
        throw translateDiskError(path, error);
      }
    });
    return path;
  }
}

function missing({ fileName, key }: RecordImage, cause?: unknown): BadDataError {
  return new BadDataError(
    `picture ${fileName} (${key}) is not in storage: import the data set again`,
    cause === undefined ? {} : { cause },
  );
}

async function hasSize(path: string, sizeBytes: number): Promise<boolean> {
  try {
    return (await stat(path)).size === sizeBytes;
  } catch {
    return false;
  }
}
