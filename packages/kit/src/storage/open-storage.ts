import { fileURLToPath } from "node:url";
import { InvalidError, UnavailableError } from "../errors.ts";
import { FolderStorage } from "./folder-storage.ts";
import type { ObjectStorage } from "./object-storage.ts";
import { s3OptionsOf } from "./s3-options.ts";
import { S3Storage } from "./s3-storage.ts";

/**
 * Opens object storage by URL: `file:///folder` is a folder, `s3://bucket/prefix` a bucket (settings in `s3OptionsOf`).
 *
 * @throws InvalidError for any other scheme
 */
export function openStorage(
  url: string,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ObjectStorage {
  if (url.startsWith("file:")) return new FolderStorage(fileURLToPath(url));
  if (url.startsWith("s3:")) return new S3Storage(s3OptionsOf(url, environment));
  throw new InvalidError(
    "unknown_storage",
    `storage URL "${url}" is not understood: use file:///folder or s3://bucket/prefix`,
  );
}

/**
 * Asks storage for something, so that a wrong address, key, bucket or region is told when a process starts.
 *
 * @returns null, or why storage does not answer just now: that is no wrong setting
 * @throws InvalidError naming the setting
 */
export async function checkStorage(storage: ObjectStorage): Promise<UnavailableError | null> {
  try {
    await storage.head("settings-check");
    return null;
  } catch (error) {
    if (error instanceof UnavailableError) return error;
    throw error;
  }
}
