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
export function checkpointKey(folder: Pick<RunFolder, "prefix">, step: number): string {
  return `${folder.prefix}checkpoints/step-${String(step).padStart(8, "0")}`;
}

export interface StoredStep {
  readonly step: number;
  /** False for what an attempt that died left: such a checkpoint does not exist. */
  readonly hasManifest: boolean;
}

/** Steps of a run that storage holds files of, newest first. */
export async function storedSteps(folder: RunFolder): Promise<StoredStep[]> {
  const found = new Map<number, boolean>();
  const prefix = `${folder.prefix}checkpoints/`;
  for await (const { key } of folder.storage.list(prefix)) {
    const [, step, name] = /^step-(\d{8,})\/(.+)$/.exec(key.slice(prefix.length)) ?? [];
    if (step !== undefined) found.set(Number(step), (found.get(Number(step)) ?? false) || name === manifestName);
  }
  return [...found].map(([step, hasManifest]) => ({ step, hasManifest })).sort((a, b) => b.step - a.step);
}

/** Steps of all checkpoints of a run whose manifest exists, newest first. */
export async function checkpointSteps(folder: RunFolder): Promise<number[]> {
  return (await storedSteps(folder)).filter(({ hasManifest }) => hasManifest).map(({ step }) => step);
}
