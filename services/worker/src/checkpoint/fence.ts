import { ConflictError } from "@drydock/kit";
import type { RunFolder } from "./run-folder.ts";

/** A newer attempt of the run has started: this process must write nothing more and end. */
export class StaleEpochError extends ConflictError {
  constructor(epoch: number, newestEpoch: number) {
    super("stale_epoch", `attempt ${epoch} was replaced by attempt ${newestEpoch}: it may write nothing more`);
  }
}

/**
 * Marks the attempt as started, before anything else is written.
 *
 * @throws StaleEpochError when a newer attempt has marked itself
 */
export async function claimEpoch(folder: RunFolder, processId: number): Promise<void> {
  await checkFence(folder);
  await folder.storage.put(claimKey(folder, folder.epoch), JSON.stringify({ epoch: folder.epoch, processId }));
}

/** @throws StaleEpochError when a newer attempt than ours has started */
export async function checkFence(folder: RunFolder): Promise<void> {
  const newest = await newestEpoch(folder);
  if (newest > folder.epoch) throw new StaleEpochError(folder.epoch, newest);
}

/** The newest attempt that has started; 0 when none has. */
export async function newestEpoch(folder: RunFolder): Promise<number> {
  let newest = 0;
  for await (const { key } of folder.storage.list(`${folder.prefix}attempts/`)) {
    const matched = /attempts\/(\d+)\/claim\.json$/.exec(key);
    if (matched) newest = Math.max(newest, Number(matched[1]));
  }
  return newest;
}

function claimKey(folder: RunFolder, epoch: number): string {
  return `${folder.prefix}attempts/${epoch}/claim.json`;
}
