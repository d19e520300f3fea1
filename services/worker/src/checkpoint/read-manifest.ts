import { NotFoundError, isDrydockError, sha256, type ObjectStorage } from "@drydock/kit";
import { CheckpointManifest } from "@drydock/spec";
import { UnusableCheckpointError } from "./unusable-checkpoint-error.ts";
import { manifestName } from "./run-folder.ts";

export interface ReadManifest {
  readonly manifest: CheckpointManifest;
  readonly sha256: string;
}

/**
 * The manifest of the checkpoint at `key`, or null when there is none.
 *
 * @throws UnusableCheckpointError when it is there but is not a manifest
 */
export async function readManifest(storage: ObjectStorage, key: string): Promise<ReadManifest | null> {
  let content: Uint8Array;
  try {
    content = await storage.get(`${key}/${manifestName}`);
  } catch (error) {
    if (error instanceof NotFoundError) return null;
    if (isDrydockError(error) && error.code === "object_damaged")
      throw new UnusableCheckpointError(key, `${manifestName} is damaged`, error);
    throw error;
  }
  return { manifest: parseManifest(key, content), sha256: sha256(content) };
}

function parseManifest(key: string, content: Uint8Array): CheckpointManifest {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(content).toString());
  } catch (error) {
    throw new UnusableCheckpointError(key, `${manifestName} is not JSON`, error);
  }
  const parsed = CheckpointManifest.safeParse(value);
  if (!parsed.success) {
    throw new UnusableCheckpointError(
      key,
      `${manifestName} is not a checkpoint manifest (${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message})`,
    );
  }
  return parsed.data;
}
