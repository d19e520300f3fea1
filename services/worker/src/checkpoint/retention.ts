import { checkFence } from "./fence.ts";
import { checkpointKey, manifestName, storedSteps, type RunFolder } from "./run-folder.ts";

export interface Retention {
  /** The step that was saved or resumed last. Later ones are of an attempt before and damaged: they count for nothing. */
  readonly currentStep: number;
  readonly keepLast: number;
  /** Step of the best evaluation, kept besides; null = none. */
  readonly bestStep: number | null;
}

/**
 * Which checkpoints may go: of those up to the current step, all but the newest `keepLast` and the best one.
 *
 * @param steps  in any order
 */
export function expendableSteps(steps: readonly number[], { currentStep, keepLast, bestStep }: Retention): number[] {
  const newestFirst = steps.filter((step) => step <= currentStep).sort((a, b) => b - a);
  return newestFirst.slice(keepLast).filter((step) => step !== bestStep);
}

/**
 * Removes the checkpoints that need not be kept, each one's manifest first, so that none is ever half there; and what
 * attempts that died left of checkpoints without a manifest.
 *
 * @throws StaleEpochError when a newer attempt has started
 */
export async function pruneCheckpoints(folder: RunFolder, retention: Retention): Promise<void> {
  const stored = await storedSteps(folder);
  const finished = stored.filter(({ hasManifest }) => hasManifest).map(({ step }) => step);
  const halves = stored
    .filter(({ step, hasManifest }) => !hasManifest && step < retention.currentStep)
    .map(({ step }) => step);
  const expendable = [...expendableSteps(finished, retention), ...halves];
  if (expendable.length > 0) await checkFence(folder);
  for (const step of expendable) await removeCheckpoint(folder, step);
}

async function removeCheckpoint(folder: RunFolder, step: number): Promise<void> {
  const key = checkpointKey(folder, step);
  await folder.storage.remove(`${key}/${manifestName}`);
  const rest: string[] = [];
  for await (const object of folder.storage.list(`${key}/`)) rest.push(object.key);
  for (const object of rest) await folder.storage.remove(object);
}
