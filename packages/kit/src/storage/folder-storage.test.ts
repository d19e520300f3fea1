import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FolderStorage } from "./folder-storage.ts";

let root: string;
let storage: FolderStorage;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-storage-"));
  storage = new FolderStorage(join(root, "store"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

test("what was put is read back, whole or by range", async () => {
  await storage.put("a/b.txt", "hello");
  expect(Buffer.from(await storage.get("a/b.txt")).toString()).toBe("hello");
  const chunks: Buffer[] = [];
  for await (const chunk of await storage.read("a/b.txt", { start: 1, endExclusive: 3 })) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).toString()).toBe("el");
});

test("ifNoneMatch refuses a taken key and keeps the first content", async () => {
  await storage.put("once", "first", { ifNoneMatch: true });
  await expect(storage.put("once", "second", { ifNoneMatch: true })).rejects.toMatchObject({
    code: "object_exists",
    status: 412,
  });
  expect(Buffer.from(await storage.get("once")).toString()).toBe("first");
});

test("of many writers with ifNoneMatch exactly one wins", async () => {
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, writer) => storage.put("race", `${writer}`, { ifNoneMatch: true })),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("keys that leave the root are refused", async () => {
  for (const key of ["../x", "a/../../x", "/etc/passwd", "", "a//b"]) {
    await expect(storage.put(key, "x")).rejects.toMatchObject({ code: "invalid_object_key" });
  }
});

test("list gives keys in order and never the unfinished ones", async () => {
  await storage.put("list/b", "1");
  await storage.put("list/a", "22");
  const found: [string, number][] = [];
  for await (const { key, sizeBytes } of storage.list("list/")) found.push([key, sizeBytes]);
  expect(found).toEqual([
    ["list/a", 2],
    ["list/b", 1],
  ]);
});

test("a missing object says so, and removing it succeeds", async () => {
  await expect(storage.get("nowhere")).rejects.toMatchObject({ code: "object_not_found" });
  expect(await storage.head("nowhere")).toBeNull();
  await storage.remove("nowhere");
});

test("files are copied in and out", async () => {
  await writeFile(join(root, "in"), "content");
  await storage.putFile("file", join(root, "in"));
  await storage.getFile("file", join(root, "deep", "out"));
  expect(await readFile(join(root, "deep", "out"), "utf8")).toBe("content");
});
