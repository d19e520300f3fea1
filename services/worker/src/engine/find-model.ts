import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { NotFoundError } from "@drydock/kit";
import type { ModelCard } from "@drydock/spec";
import { refuseOtherBase } from "../publish/check-base.ts";
import { readModelCard } from "../publish/model-card.ts";

/** A model to answer with: its base's folder, its adapter's if it has one, and its card if Drydock made it. */
export interface FoundModel {
  readonly directory: string;
  readonly adapterDirectory: string | undefined;
  readonly card: ModelCard | null;
}

/**
 * Finds the parts of a model. `directory` is a whole model, or an adapter whose card names its base as a folder.
 *
 * @throws NotFoundError saying which folder is missing; InvalidError when the adapter is one of another base
 */
export async function findModel(directory: string, adapterDirectory: string | undefined): Promise<FoundModel> {
  const found = await findParts(directory, adapterDirectory);
  if (found.adapterDirectory !== undefined) await refuseOtherBase(found.adapterDirectory, found.directory);
  return found;
}

async function findParts(directory: string, adapterDirectory: string | undefined): Promise<FoundModel> {
  await needFolder(directory, "model folder");
  if (adapterDirectory !== undefined) {
    await needFolder(adapterDirectory, "adapter folder");
    return { directory, adapterDirectory, card: await readModelCard(adapterDirectory) };
  }
  const card = await readModelCard(directory);
  const isAdapter = existsSync(join(directory, "adapter_config.json")) && !existsSync(join(directory, "config.json"));
  if (!isAdapter) return { directory, adapterDirectory: undefined, card };
  if (card === null || !existsSync(join(card.base, "config.json"))) {
    throw new NotFoundError(
      "base_not_found",
      `${directory} holds an adapter, and its base ${card === null ? "" : `"${card.base}" `}is not a folder here: give the base's folder, and the adapter with --adapter ${directory}`,
    );
  }
  return { directory: card.base, adapterDirectory: directory, card };
}

async function needFolder(path: string, what: string): Promise<void> {
  try {
    if ((await stat(path)).isDirectory()) return;
  } catch (error) {
    throw new NotFoundError("folder_not_found", `${what} ${path} does not exist`, { cause: error });
  }
  throw new NotFoundError("folder_not_found", `${what} ${path} is not a folder`);
}
