import { fileURLToPath } from "node:url";
import { InvalidError } from "../errors.ts";
import { FolderStorage } from "./folder-storage.ts";
import type { ObjectStorage } from "./object-storage.ts";

/** Opens object storage by URL. `file:///folder` is a folder. @throws InvalidError for any other scheme */
export function openStorage(url: string): ObjectStorage {
  if (url.startsWith("file:")) return new FolderStorage(fileURLToPath(url));
  throw new InvalidError("unknown_storage", `storage URL "${url}" is not understood: use file:///folder`);
}
