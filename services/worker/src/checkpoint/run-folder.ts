import type { ObjectStorage } from "@drydock/kit";

/** Where one run keeps its things, and on behalf of which attempt we write there. */
export interface RunFolder {
  readonly storage: ObjectStorage;
  /** `runs/<runId>/` in shared storage; empty when a worker runs alone in a folder of its own. Ends with `/` unless empty. */
  readonly prefix: string;
  readonly runId: string;
  /** Attempt epoch: only grows; the newest one alone may replace anything. */
  readonly epoch: number;
}

export const manifestName = "manifest.json";
export const stateName = "state.json";

/** Key prefix of the checkpoint of a step, without a slash at its end: `runs/<runId>/checkpoints/step-00000150`. */
export function checkpointKey(folder: RunFolder, step: number): string {
  return `${folder.prefix}checkpoints/step-${String(step).padStart(8, "0")}`;
}

/** The step of a checkpoint's manifest key; null for any other key. */
function stepOfManifestKey(key: string): number | null {
  const matched = /(?:^|\/)checkpoints\/step-(\d{8,})\/manifest\.json$/.exec(key);
  return matched?.[1] === undefined ? null : Number(matched[1]);
}

/** Steps of all checkpoints of a run whose manifest exists, newest first. */
export async function checkpointSteps(folder: RunFolder): Promise<number[]> {
  const steps: number[] = [];
  for await (const { key } of folder.storage.list(`${folder.prefix}checkpoints/`)) {
    const step = stepOfManifestKey(key);
    if (step !== null) steps.push(step);
  }
  return steps.sort((a, b) => b - a);
}
