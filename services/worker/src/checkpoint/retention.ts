import type { RunFolder } from "./run-folder.ts";
import { checkpointKey, checkpointSteps, manifestName } from "./run-folder.ts";

/** Which checkpoints may go: all but the newest `keepLast` and the best one. `steps` in any order. */
export function expendableSteps(steps: readonly number[], keepLast: number, bestStep: number | null): number[] {
  const newestFirst = [...steps].sort((a, b) => b - a);
  return newestFirst.slice(keepLast).filter((step) => step !== bestStep);
}

/** Removes the checkpoints that the settings do not keep: each one's manifest first, so that none is ever half there. */
export async function pruneCheckpoints(
  folder: RunFolder,
  keepLast: number,
  bestStep: number | null,
): Promise<number[]> {
  const expendable = expendableSteps(await checkpointSteps(folder), keepLast, bestStep);
  for (const step of expendable) {
    const key = checkpointKey(folder, step);
    await folder.storage.remove(`${key}/${manifestName}`);
    const rest: string[] = [];
    for await (const object of folder.storage.list(`${key}/`)) rest.push(object.key);
    for (const object of rest) await folder.storage.remove(object);
  }
  return expendable;
}
