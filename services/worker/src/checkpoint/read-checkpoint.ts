import { mkdir, rm, stat } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import { NotFoundError, isDrydockError, type ObjectStorage } from "@drydock/kit";
import type { CheckpointManifest } from "@drydock/spec";
import { translateDiskError } from "../disk-error.ts";
import { RankGroup } from "../ranks/rank-group.ts";
import { readManifest } from "./read-manifest.ts";
import { checkpointKey, checkpointSteps, type RunFolder } from "./run-folder.ts";
import { UnusableCheckpointError } from "./unusable-checkpoint-error.ts";
import { digestOfFile } from "./write-checkpoint.ts";

/** A checkpoint whose every byte was checked, copied to this machine. */
export interface LocalCheckpoint {
  readonly key: string;
  readonly manifest: CheckpointManifest;
  readonly manifestSha256: string;
  /** Folder on this machine with the files by their names in the manifest. */
  readonly directory: string;
}

/**
 * Copies the checkpoint at `key` into `directory`, comparing each file's SHA-256.
 *
 * @param isNeeded  which files; default all
 * @throws UnusableCheckpointError naming the file that is missing or differs from the manifest; `directory` is then gone
 */
export async function readCheckpoint(
  storage: ObjectStorage,
  key: string,
  directory: string,
  isNeeded: (name: string, worldSize: number) => boolean = () => true,
): Promise<LocalCheckpoint> {
  const found = await readManifest(storage, key);
  if (!found) throw new UnusableCheckpointError(key, "it has no manifest.json, so it was never finished");
  await rm(directory, { recursive: true, force: true });
  try {
    const { files, worldSize } = found.manifest;
    for (const file of files) if (isNeeded(file.name, worldSize)) await copyVerified(storage, key, file, directory);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
  return { key, manifest: found.manifest, manifestSha256: found.sha256, directory };
}

/**
 * The newest checkpoint of the run that can be used, copied into `directory`; null when there is none. Each newer one
 * that cannot be used is told to `warn` and passed over. Of several ranks each reads what it needs, and all take the newest
 * one that every rank could read.
 */
export async function readLatestCheckpoint(
  folder: RunFolder,
  directory: string,
  warn: (message: string) => void,
  group = new RankGroup(null),
  isNeeded: (name: string, worldSize: number) => boolean = () => true,
): Promise<LocalCheckpoint | null> {
  for (const step of await group.byFirst(async () => await checkpointSteps(folder))) {
    const found = await tryToRead(folder, step, directory, isNeeded);
    const reasons = await group.exchange(typeof found === "string" ? found : "");
    const reason = reasons.find((text) => text !== "");
    if (typeof found !== "string" && reason === undefined) return found;
    warn(`${reason}; the checkpoint before it is used instead`);
  }
  return null;
}

/** The checkpoint, or why it cannot be used. */
async function tryToRead(
  folder: RunFolder,
  step: number,
  directory: string,
  isNeeded: (name: string, worldSize: number) => boolean,
): Promise<LocalCheckpoint | string> {
  try {
    return await readCheckpoint(folder.storage, checkpointKey(folder, step), directory, isNeeded);
  } catch (error) {
    if (!(error instanceof UnusableCheckpointError)) throw error;
    return error.message;
  }
}

async function copyVerified(
  storage: ObjectStorage,
  key: string,
  file: CheckpointManifest["files"][number],
  directory: string,
): Promise<void> {
  const path = resolve(join(directory, file.name));
  if (!path.startsWith(resolve(directory) + sep))
    throw new UnusableCheckpointError(key, `file name "${file.name}" in its manifest leaves the folder`);
  await mkdir(dirname(path), { recursive: true });
  try {
    await storage.getFile(`${key}/${file.name}`, path);
  } catch (error) {
    if (error instanceof NotFoundError) throw new UnusableCheckpointError(key, `file ${file.name} is missing`, error);
    if (isDrydockError(error) && error.code === "object_damaged")
      throw new UnusableCheckpointError(key, `file ${file.name} is damaged (${error.message})`, error);
    throw translateDiskError(path, error);
  }
  const { size: sizeBytes } = await stat(path);
  const digest = await digestOfFile(path);
  if (sizeBytes !== file.sizeBytes)
    throw new UnusableCheckpointError(
      key,
      `file ${file.name} has ${sizeBytes} bytes, its manifest says ${file.sizeBytes}`,
    );
  if (digest !== file.sha256)
    throw new UnusableCheckpointError(
      key,
      `file ${file.name} is damaged (sha256 ${digest.slice(0, 12)}…, its manifest says ${file.sha256.slice(0, 12)}…)`,
    );
}
