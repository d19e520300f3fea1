import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { InvalidError, NotFoundError, messageOf } from "@drydock/kit";
import { ModelCard } from "@drydock/spec";
import type { DrydockClient } from "../client/drydock-client.ts";
import { splitModelReference } from "../commands/context.ts";
import { cachedModel } from "./model-cache.ts";

/** Folders to answer with. */
export interface LocalModel {
  readonly directory: string;
  readonly adapterDirectory: string | null;
}

const shippedModels = fileURLToPath(new URL("../../../../models", import.meta.url));

/**
 * The folders of a model: a folder on this machine, a model that ships with Drydock, or `name@version` or `name@alias` on the server,
 * which is downloaded. An adapter's base is found the same way.
 *
 * @throws NotFoundError saying what was looked for
 */
export async function findLocalModel(
  reference: string,
  adapter: string | undefined,
  client: () => DrydockClient,
): Promise<LocalModel> {
  const directory = await folderOf(reference, client);
  if (adapter !== undefined) return { directory, adapterDirectory: await folderOf(adapter, client) };
  const isAdapter = existsSync(join(directory, "adapter_config.json")) && !existsSync(join(directory, "config.json"));
  if (!isAdapter) return { directory, adapterDirectory: null };
  return { directory: await folderOf(await baseOf(directory), client), adapterDirectory: directory };
}

async function folderOf(reference: string, client: () => DrydockClient): Promise<string> {
  const path = reference.startsWith("file:") ? fileURLToPath(reference) : reference;
  if (existsSync(path)) return resolve(path);
  const shipped = join(shippedModels, path);
  if (/^[\w.-]+$/.test(path) && existsSync(shipped)) return shipped;
  if (/[/\\]/.test(path)) throw new NotFoundError("folder_not_found", `there is no folder ${reference}`);
  const { name, version } = splitModelReference(reference);
  return await cachedModel(client(), await client().getModel(name, version));
}

async function baseOf(adapterDirectory: string): Promise<string> {
  const path = join(adapterDirectory, "drydock.json");
  try {
    return ModelCard.parse(JSON.parse(await readFile(path, "utf8"))).base;
  } catch (cause) {
    throw new InvalidError(
      "unknown_base",
      `${adapterDirectory} holds an adapter, but not which base it belongs to (${path}: ${messageOf(cause).split("\n")[0]}): give the base as the model and the adapter with --adapter`,
      { cause },
    );
  }
}
