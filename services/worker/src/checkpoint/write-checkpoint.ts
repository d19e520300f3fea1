import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { PreconditionFailedError, canonicalJson, sha256, type ObjectStorage } from "@drydock/kit";
import { CheckpointManifest, type DataCursor } from "@drydock/spec";
import { RankGroup } from "../ranks/rank-group.ts";
import { StaleEpochError, checkFence } from "./fence.ts";
import { readManifest, type ReadManifest } from "./read-manifest.ts";
import { checkpointKey, manifestName, type RunFolder } from "./run-folder.ts";
import { UnusableCheckpointError } from "./unusable-checkpoint-error.ts";

/** A file on this machine that becomes a file of the checkpoint. */
interface LocalFile {
  readonly name: string;
  readonly path: string;
}

export interface CheckpointContent {
  readonly step: number;
  readonly mode: "lora" | "full";
  readonly worldSize: number;
  readonly dataCursor: DataCursor;
  readonly seed: number;
  readonly files: readonly LocalFile[];
}

export interface WrittenCheckpoint {
  readonly step: number;
  /** Key prefix, without a slash at its end. */
  readonly key: string;
  /** Of all files, the manifest left out. */
  readonly sizeBytes: number;
  readonly manifestSha256: string;
}

/**
 * Puts a checkpoint into storage: the files first, the manifest last and only if there is none, so that a checkpoint
 * exists whole or not at all. What guards it against a process of an older attempt that still runs:
 *
 * 1. No put replaces anything. When a key is taken by other content, it is removed first.
 * 2. Only the newest attempt removes: before each removal, and before the manifest, the attempts' marks are read.
 * 3. A manifest of a newer attempt is never touched; one of an older attempt goes before the files it names do.
 * 4. A manifest of our own attempt for this step means that the checkpoint is there already.
 *
 * Of several ranks each puts its own files; rank 0 clears the way before and writes the manifest when all are there.
 *
 * @throws StaleEpochError when a newer attempt has started
 */
export async function writeCheckpoint(
  folder: RunFolder,
  content: CheckpointContent,
  now: Date,
  group = new RankGroup(null),
): Promise<WrittenCheckpoint> {
  const key = checkpointKey(folder, content.step);
  const existing = await group.byFirst(async () => await clearTheWay(folder, key));
  if (existing) return existing;
  const own: CheckpointManifest["files"] = [];
  for (const { name, path } of content.files) {
    const digest = await digestOfFile(path);
    await putOnce(folder, `${key}/${name}`, path, digest);
    own.push({ name, sizeBytes: (await stat(path)).size, sha256: digest });
  }
  const parts = await group.exchange(JSON.stringify(own));
  const files = parts.flatMap((part) => JSON.parse(part) as CheckpointManifest["files"]);
  return await group.byFirst(async () => await putManifest(folder, content, files, now));
}

/** What our own attempt has written already; null when this attempt is to write it, and nothing older is in its way. */
async function clearTheWay(folder: RunFolder, key: string): Promise<WrittenCheckpoint | null> {
  const existing = await existingManifest(folder.storage, key);
  if (existing && existing.manifest.epoch > folder.epoch)
    throw new StaleEpochError(folder.epoch, existing.manifest.epoch);
  if (existing?.manifest.epoch === folder.epoch) return written(key, existing.manifest, existing.sha256);
  await checkFence(folder);
  await folder.storage.remove(`${key}/${manifestName}`);
  return null;
}

async function putManifest(
  folder: RunFolder,
  content: CheckpointContent,
  files: CheckpointManifest["files"],
  now: Date,
): Promise<WrittenCheckpoint> {
  const key = checkpointKey(folder, content.step);
  const manifest = CheckpointManifest.parse({
    format: "drydock-checkpoint/1",
    runId: folder.runId,
    step: content.step,
    epoch: folder.epoch,
    worldSize: content.worldSize,
    mode: content.mode,
    files,
    dataCursor: content.dataCursor,
    rng: { seed: content.seed, step: content.step },
    createdAt: now.toISOString(),
  });
  const text = `${canonicalJson(manifest)}\n`;
  await checkFence(folder);
  await folder.storage.put(`${key}/${manifestName}`, text, { ifNoneMatch: true });
  return written(key, manifest, sha256(text));
}

async function existingManifest(storage: ObjectStorage, key: string): Promise<ReadManifest | null> {
  try {
    return await readManifest(storage, key);
  } catch (error) {
    if (error instanceof UnusableCheckpointError) return null; // to be replaced like one of an older attempt
    throw error;
  }
}

/** Puts a file at a key that is free, or holds the same content, or holds what an attempt before ours left there. */
async function putOnce(folder: RunFolder, key: string, path: string, digest: string): Promise<void> {
  for (;;) {
    try {
      return await folder.storage.putFile(key, path, { ifNoneMatch: true });
    } catch (error) {
      if (!(error instanceof PreconditionFailedError)) throw error;
      if ((await digestOfObject(folder.storage, key)) === digest) return;
      await checkFence(folder);
      await folder.storage.remove(key);
    }
  }
}

function written(key: string, manifest: CheckpointManifest, manifestSha256: string): WrittenCheckpoint {
  return {
    step: manifest.step,
    key,
    sizeBytes: manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0),
    manifestSha256,
  };
}

/** Lower-case hex SHA-256 of a file's bytes. */
export async function digestOfFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return hash.digest("hex");
}

async function digestOfObject(storage: ObjectStorage, key: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(await storage.read(key), hash);
  return hash.digest("hex");
}
