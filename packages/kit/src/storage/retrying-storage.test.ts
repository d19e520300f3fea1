import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { afterAll, beforeAll, expect, test } from "vitest";
import { UnavailableError } from "../errors.ts";
import type { RetryNotice } from "../retry.ts";
import { FolderStorage } from "./folder-storage.ts";
import type { ObjectInfo } from "./object-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-retrying-"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

/** A folder whose next `failures` calls find no room. */
class FailingStorage extends FolderStorage {
  failures = 0;

  override async put(...parameters: Parameters<FolderStorage["put"]>): Promise<void> {
    this.#maybeFail();
    await super.put(...parameters);
  }

  override async read(...parameters: Parameters<FolderStorage["read"]>): Promise<Readable> {
    this.#maybeFail();
    return await super.read(...parameters);
  }

  override async *list(prefix: string): AsyncIterable<ObjectInfo> {
    for await (const found of super.list(prefix)) {
      if (found.key.endsWith("2")) this.#maybeFail();
      yield found;
    }
  }

  #maybeFail(): void {
    if (this.failures-- > 0) throw new UnavailableError("storage_full", "the disk is full");
  }
}

function setUp(name: string, budgetMs = 60_000) {
  const inner = new FailingStorage(join(root, name));
  const notices: RetryNotice[] = [];
  let nowMs = 0;
  const clock = { now: () => nowMs, sleep: async (delayMs: number) => void (nowMs += delayMs), random: () => 1 };
  return {
    inner,
    notices,
    storage: new RetryingStorage(inner, {
      budgetMs,
      firstDelayMs: 100,
      maximumDelayMs: 1000,
      clock,
      onRetry: (notice) => notices.push(notice),
    }),
  };
}

test("waits double up to the cap", async () => {
  const { inner, notices, storage } = setUp("double");
  inner.failures = 6;
  await storage.put("x", "1");
  expect(notices.map(({ delayMs }) => delayMs)).toEqual([100, 200, 400, 800, 1000, 1000]);
});

test("the last wait ends with the budget, then the error passes", async () => {
  const { inner, notices, storage } = setUp("budget", 1000);
  inner.failures = 1000;
  await expect(storage.put("x", "1")).rejects.toMatchObject({ code: "storage_full" });
  expect(notices.reduce((sum, { delayMs }) => sum + delayMs, 0)).toBe(1000);
});

test("errors that time does not heal pass at once", async () => {
  const { notices, storage } = setUp("pass");
  await expect(storage.get("nowhere")).rejects.toMatchObject({ code: "object_not_found" });
  expect(notices).toEqual([]);
});

test("a list that breaks goes on after the last key it gave", async () => {
  const { inner, storage } = setUp("list");
  for (const key of ["a/1", "a/2", "a/3"]) await inner.put(key, key);
  inner.failures = 2;
  const keys: string[] = [];
  for await (const { key } of storage.list("a/")) keys.push(key);
  expect(keys).toEqual(["a/1", "a/2", "a/3"]);
});

test("an aborted signal ends the retries with the last error", async () => {
  const { inner } = setUp("abort");
  inner.failures = 1000;
  const stop = new AbortController();
  const storage = new RetryingStorage(inner, {
    budgetMs: 1e9,
    firstDelayMs: 1e8,
    signal: stop.signal,
    onRetry: () => stop.abort(),
  });
  await expect(storage.put("x", "1")).rejects.toMatchObject({ code: "storage_full" });
});

test("objects of a folder have a path on this machine", async () => {
  const { inner, storage } = setUp("local");
  await storage.put("a/b", "1");
  expect(storage.localPath?.("a/b")).toBe(join(root, "local", "a", "b"));
  expect(() => inner.localPath("../x")).toThrow("not a plain relative path");
});
