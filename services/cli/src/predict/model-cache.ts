import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ReadableStream } from "node:stream/web";
import { digestOf, UnavailableError } from "@drydock/kit";
import type { Model } from "@drydock/spec";
import type { DrydockClient } from "../client/drydock-client.ts";

/** Folder of downloaded models; what is in it can be deleted at any time. */
export function modelCacheFolder(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  return join(environment["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "drydock", "models");
}

/** The folder of a model's files in the cache, by their digests: downloaded once, whole or not at all. */
export async function cachedModel(
  client: DrydockClient,
  model: Model,
  cache: string = modelCacheFolder(),
): Promise<string> {
  const digest = digestOf(model.files.map(({ name, sha256 }) => [name, sha256]));
  const folder = join(cache, `${model.name}-${model.version}-${digest.slice(0, 16)}`);
  if (await isFolder(folder)) return folder;
  const partial = `${folder}.partial-${process.pid}`;
  try {
    await downloadModel(client, model, partial);
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    if (!(await isFolder(folder))) throw error; // Another process was faster.
  }
  return folder;
}

/** Downloads all files of a model into a folder and checks each against its digest. */
export async function downloadModel(client: DrydockClient, model: Model, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const { name, sha256 } of model.files) {
    const path = join(folder, ...name.split("/"));
    await mkdir(dirname(path), { recursive: true });
    const response = await client.downloadModelFile(model, name);
    const hash = createHash("sha256");
    const tap = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        done(null, chunk);
      },
    });
    if (response.body === null)
      throw new UnavailableError("empty_stream", `${name} of ${model.name}@${model.version} came without content`);
    await pipeline(Readable.fromWeb(response.body as ReadableStream), tap, createWriteStream(path));
    if (hash.digest("hex") !== sha256)
      throw new UnavailableError(
        "download_damaged",
        `${name} of ${model.name}@${model.version} arrived damaged (its SHA-256 differs): try again`,
      );
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}
