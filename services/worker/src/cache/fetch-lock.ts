import { readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { fateOfMark, markOfThisProcess } from "@drydock/kit";
import { isMissing } from "./missing.ts";

const beatIntervalMs = 5_000;
/** A lock whose holder cannot be looked up and has not touched it for so long is free. */
const silentAfterMs = 60_000;
/** Waits between two looks: short for pictures, longer for weights. */
const firstLookAfterMs = 10;
const lookIntervalMs = 500;

/**
 * Runs `fetch` in one process of the node at a time, or not at all when `isThere` finds that another one has done it
 * meanwhile. A lock only saves work: what is fetched twice is put in place twice, whole each time.
 */
export async function fetchOnce(
  path: string,
  isThere: () => Promise<boolean>,
  fetch: () => Promise<void>,
): Promise<void> {
  for (let looks = 0; !(await isThere()); looks++) {
    if (!(await take(path))) {
      await delay(Math.min(lookIntervalMs, firstLookAfterMs * 2 ** looks));
      continue;
    }
    const beat = setInterval(() => void touch(path), beatIntervalMs);
    try {
      if (!(await isThere())) await fetch();
      return;
    } finally {
      clearInterval(beat);
      await rm(path, { force: true });
    }
  }
}

async function take(path: string): Promise<boolean> {
  try {
    await writeFile(path, markOfThisProcess(), { flag: "wx" });
    return true;
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
    if (await isAbandoned(path)) await rm(path, { force: true });
    return false;
  }
}

async function isAbandoned(path: string): Promise<boolean> {
  try {
    const mark = await readFile(path, "utf8");
    if (mark !== "" && fateOfMark(mark) !== "unknown") return fateOfMark(mark) === "gone";
    return Date.now() - (await stat(path)).mtimeMs > silentAfterMs;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}

async function touch(path: string): Promise<void> {
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined); // a lock that was taken away harms nobody
}
