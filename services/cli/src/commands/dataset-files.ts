import { readdir, stat } from "node:fs/promises";
import { basename, join, relative, sep } from "node:path";
import { InvalidError } from "@drydock/kit";
import type { DrydockClient, Upload, UploadFile } from "../client/drydock-client.ts";

const archivePattern = /\.(zip|tar|tar\.gz|tgz)$/i;

/** What is to be sent: an archive as it is, or files by their names in the data set. */
export type Parcel = { readonly archive: string } | { readonly files: readonly UploadFile[] };

/** Looks at a folder, an archive or one file. @throws InvalidError when the path holds nothing to send */
export async function findFiles(path: string): Promise<Parcel> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new InvalidError("unreadable_file", `${path} cannot be read: does it exist?`, { cause });
  });
  if (info.isFile() && archivePattern.test(path)) return { archive: path };
  const files = info.isFile() ? [{ path, name: basename(path) }] : await folderFiles(path);
  if (files.length === 0) throw new InvalidError("nothing_to_upload", `${path} holds no files`);
  return { files };
}

/** Sends it as one upload. */
export async function sendFiles(client: DrydockClient, dataset: string, parcel: Parcel): Promise<Upload> {
  return "archive" in parcel
    ? await client.uploadArchive(dataset, parcel.archive)
    : await client.uploadFiles(dataset, parcel.files);
}

/** All files below a folder but hidden ones; links are not followed. */
export async function folderFiles(folder: string): Promise<UploadFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => ({ path, name: relative(folder, path).split(sep).join("/") }))
    .filter(({ name }) => !name.split("/").some((part) => part.startsWith(".")))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}
