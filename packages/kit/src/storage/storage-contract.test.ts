import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Versitygw } from "../../test/versitygw.ts";
import { FolderStorage } from "./folder-storage.ts";
import { compareKeys } from "./object-key.ts";
import type { ObjectStorage } from "./object-storage.ts";
import { S3Storage } from "./s3-storage.ts";

const mebibyte = 2 ** 20;

/** What every storage keeps, told once: the same facts for a folder and for a real S3 server. */
describe.each(["folder", "S3"])("storage in a %s", (kind) => {
  let root: string;
  let server: Versitygw | null = null;
  let storage: ObjectStorage;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), "drydock-storage-"));
    if (kind === "folder") storage = new FolderStorage(join(root, "store"));
    else {
      server = await Versitygw.start();
      storage = new S3Storage(server.options({ prefix: "team/a", partSizeBytes: 5 * mebibyte }));
    }
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(root, { recursive: true, force: true });
  });

  async function textOf(key: string, range?: { start: number; endExclusive: number }): Promise<string> {
    return Buffer.concat(await Array.fromAsync(await storage.read(key, range))).toString();
  }

  async function keysOf(prefix: string): Promise<string[]> {
    return (await Array.fromAsync(storage.list(prefix))).map(({ key }) => key);
  }

  test("what was put is read back, whole or by range", async () => {
    await storage.put("a/b.txt", "hello");
    expect(Buffer.from(await storage.get("a/b.txt")).toString()).toBe("hello");
    expect(await textOf("a/b.txt", { start: 1, endExclusive: 3 })).toBe("el");
    expect(await textOf("a/b.txt", { start: 2, endExclusive: 2 })).toBe("");
    expect(await storage.head("a/b.txt")).toMatchObject({ key: "a/b.txt", sizeBytes: 5 });
  });

  test("a second put replaces the first", async () => {
    await storage.put("twice", "first, and longer");
    await storage.put("twice", "second");
    expect(await textOf("twice")).toBe("second");
  });

  test("an empty object is one", async () => {
    await storage.put("empty", "");
    expect(await textOf("empty")).toBe("");
    expect(await storage.head("empty")).toMatchObject({ sizeBytes: 0 });
    await storage.getFile("empty", join(root, "empty"));
    await storage.putFile("empty-again", join(root, "empty"));
    expect(await storage.head("empty-again")).toMatchObject({ sizeBytes: 0 });
  });

  test("ifNoneMatch refuses a taken key and keeps the first content", async () => {
    const taken = { code: "object_exists", status: 412, message: 'object "once" exists already' };
    await storage.put("once", "first", { ifNoneMatch: true });
    await expect(storage.put("once", "second", { ifNoneMatch: true })).rejects.toMatchObject(taken);
    await writeFile(join(root, "second"), "second");
    await expect(storage.putFile("once", join(root, "second"), { ifNoneMatch: true })).rejects.toMatchObject(taken);
    await writeFile(join(root, "large"), randomBytes(6 * mebibyte));
    await expect(storage.putFile("once", join(root, "large"), { ifNoneMatch: true })).rejects.toMatchObject(taken);
    expect(await textOf("once")).toBe("first");
  });

  test("a large file goes in and comes out equal, also by a range across its parts", async () => {
    const content = randomBytes(17 * mebibyte + 3);
    await writeFile(join(root, "in"), content);
    await storage.putFile("big", join(root, "in"), { ifNoneMatch: true });
    await storage.getFile("big", join(root, "deep", "out"));
    expect((await readFile(join(root, "deep", "out"))).equals(content)).toBe(true);
    expect(await readdir(join(root, "deep"))).toEqual(["out"]);
    const range = { start: 5 * mebibyte - 7, endExclusive: 5 * mebibyte + 9 };
    const part = Buffer.concat(await Array.fromAsync(await storage.read("big", range)));
    expect(part.equals(content.subarray(range.start, range.endExclusive))).toBe(true);
    expect(Buffer.from(await storage.get("big")).equals(content)).toBe(true);
  });

  test("a missing object says so, and removing it succeeds", async () => {
    const missing = { code: "object_not_found", status: 404, message: 'there is no object "nowhere" in storage' };
    await expect(storage.get("nowhere")).rejects.toMatchObject(missing);
    await expect(storage.getFile("nowhere", join(root, "nowhere"))).rejects.toMatchObject(missing);
    expect(await storage.head("nowhere")).toBeNull();
    await storage.remove("nowhere");
  });

  test("a removed object is gone, and its key is free again", async () => {
    await storage.put("gone", "1");
    await storage.remove("gone");
    expect(await storage.head("gone")).toBeNull();
    await storage.put("gone", "2", { ifNoneMatch: true });
  });

  test.each(["../x", "a/../../x", "/etc/passwd", "", "a//b", "a/", "a\0b"])("key %j is refused", async (key) => {
    await expect(storage.put(key, "x")).rejects.toMatchObject({ code: "invalid_object_key" });
    await expect(storage.get(key)).rejects.toMatchObject({ code: "invalid_object_key" });
  });

  test("list gives what begins with the prefix, in order, however many pages it takes", async () => {
    const keys = Array.from({ length: 1103 }, (_, index) => `many/${String(index).padStart(5, "0")}`);
    for (let first = 0; first < keys.length; first += 50)
      await Promise.all(keys.slice(first, first + 50).map(async (key) => await storage.put(key, key)));
    await storage.put("many-more", "1");
    expect(await keysOf("many/")).toEqual(keys);
    expect(await keysOf("many/0000")).toEqual(keys.slice(0, 10));
    expect(await keysOf("nothing/")).toEqual([]);
  });

  test("list sorts by the bytes of the keys, folders or not", async () => {
    const keys = ["sort/a.b", "sort/a/b", "sort/a0", "sort/a-b/c", "sort/ä", "sort/\u{1F6A2}", "sort/\uFF21"];
    for (const key of keys) await storage.put(key, "1");
    expect(await keysOf("sort/")).toEqual(keys.toSorted(compareKeys));
  });

  test.each([
    "a b",
    "a+b",
    "100%",
    "%41%2F",
    "what?&x=1#y",
    "quote\"'`",
    "<xml>&amp;",
    "back\\slash",
    "ä/ö/ü.png",
    "日本語.json",
    "\u{1F6A2}",
    ".hidden",
    "[1]{2}(3)!*~$@,;:=^|",
  ])("key %j is kept as it is", async (name) => {
    const key = `odd/${name}`;
    await storage.put(key, name);
    expect(await textOf(key)).toBe(name);
    expect(await storage.head(key)).toMatchObject({ key });
    expect(await keysOf(key)).toEqual([key]);
    await storage.remove(key);
    expect(await keysOf(key)).toEqual([]);
  });
});
