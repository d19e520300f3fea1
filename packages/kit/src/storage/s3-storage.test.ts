import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { S3Server } from "../../test/s3-server.ts";
import { openStorage } from "./open-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { S3Storage } from "./s3-storage.ts";

let server: S3Server;
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-s3-"));
});
afterAll(async () => await rm(folder, { recursive: true, force: true }));
beforeEach(async () => {
  server = await S3Server.start();
});
afterEach(async () => await server[Symbol.asyncDispose]());

function storage(options: { partSizeBytes?: number } = {}): S3Storage {
  return new S3Storage({
    bucket: "bucket",
    prefix: "team/a",
    endpoint: server.url,
    region: "us-east-1",
    credentials: { accessKeyId: "key", secretAccessKey: "secret" },
    forcePathStyle: true,
    maximumTries: 1,
    ...options,
  });
}

/** The same with retries that do not wait. */
function patient(budgetMs = 60_000): RetryingStorage {
  let nowMs = 0;
  const clock = { now: () => nowMs, sleep: async (delayMs: number) => void (nowMs += delayMs), random: () => 0.5 };
  return new RetryingStorage(storage(), { budgetMs, clock });
}

async function textOf(key: string, range?: { start: number; endExclusive: number }): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of await storage().read(key, range)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test("what was put below the prefix is read back, whole or by range", async () => {
  await storage().put("a/b c.txt", "hello");
  expect([...server.objects.keys()]).toEqual(["team/a/a/b c.txt"]);
  expect(await textOf("a/b c.txt")).toBe("hello");
  expect(await textOf("a/b c.txt", { start: 1, endExclusive: 3 })).toBe("el");
  expect(await textOf("a/b c.txt", { start: 2, endExclusive: 2 })).toBe("");
  expect(await storage().head("a/b c.txt")).toMatchObject({ key: "a/b c.txt", sizeBytes: 5 });
});

test("ifNoneMatch refuses a taken key and keeps the first content", async () => {
  await storage().put("once", "first", { ifNoneMatch: true });
  await expect(storage().put("once", "second", { ifNoneMatch: true })).rejects.toMatchObject({
    code: "object_exists",
    status: 412,
  });
  expect(await textOf("once")).toBe("first");
});

test("a missing object says so, and removing it succeeds", async () => {
  await expect(storage().get("nowhere")).rejects.toMatchObject({ code: "object_not_found" });
  expect(await storage().head("nowhere")).toBeNull();
  await storage().remove("nowhere");
});

test("list follows the pages and gives keys without the prefix", async () => {
  server.pageSize = 2;
  for (const key of ["x/1", "x/2", "x/3", "x/4", "x/5", "y/1"]) await storage().put(key, key);
  const keys: string[] = [];
  for await (const { key } of storage().list("x/")) keys.push(key);
  expect(keys).toEqual(["x/1", "x/2", "x/3", "x/4", "x/5"]);
});

test("a file larger than a part goes up in parts and comes back equal", async () => {
  const content = randomBytes(1_000_003);
  await writeFile(join(folder, "in"), content);
  await storage({ partSizeBytes: 300_000 }).putFile("big", join(folder, "in"));
  expect(server.requests.filter((request) => request.includes("partNumber="))).toHaveLength(4);
  await storage().getFile("big", join(folder, "deep", "out"));
  expect((await readFile(join(folder, "deep", "out"))).equals(content)).toBe(true);
});

test("an upload in parts that fails is aborted and leaves no object", async () => {
  await writeFile(join(folder, "in"), randomBytes(1000));
  server.faults.push({ times: 1, method: "PUT", kind: { status: 503 } });
  await expect(storage({ partSizeBytes: 300 }).putFile("big", join(folder, "in"))).rejects.toMatchObject({
    code: "storage_unavailable",
  });
  expect(server.openUploads).toBe(0);
  expect(server.objects.size).toBe(0);
});

test.each([503, 500, 429])("status %i is unavailable and names the object", async (status) => {
  server.faults.push({ times: 1, kind: { status } });
  await expect(storage().put("runs/r/x", "1")).rejects.toMatchObject({
    status: 503,
    isRetryable: true,
    message: `storage answers ${status} for object "runs/r/x"`,
  });
});

test("wrong credentials are told at once and not retried", async () => {
  server.faults.push({ times: 1, kind: { status: 403 } });
  await expect(patient().put("x", "1")).rejects.toMatchObject({ code: "storage_refused", isRetryable: false });
  expect(server.requests).toHaveLength(1);
});

test("a server that is not there is unavailable", async () => {
  const lonely = new S3Storage({
    bucket: "bucket",
    prefix: "",
    endpoint: "http://127.0.0.1:1",
    region: "r",
    credentials: { accessKeyId: "a", secretAccessKey: "b" },
    forcePathStyle: true,
    maximumTries: 1,
  });
  await expect(lonely.get("x")).rejects.toMatchObject({
    code: "storage_unavailable",
    message: 'storage does not answer (ECONNREFUSED) for object "x"',
  });
});

test("storage answering 503 for a while is ridden out", async () => {
  server.faults.push({ times: 5, kind: { status: 503 } });
  await patient().put("x", "content");
  expect(await textOf("x")).toBe("content");
  expect(server.requests.filter((request) => request.startsWith("PUT"))).toHaveLength(6);
});

test("storage answering 503 past the budget gives the error of the last try", async () => {
  server.faults.push({ times: 1000, kind: { status: 503 } });
  await expect(patient(5_000).put("x", "content")).rejects.toMatchObject({ code: "storage_unavailable" });
});

test("a conditional put whose answer was lost has succeeded when its own content lies there", async () => {
  server.faults.push({ times: 1, method: "PUT", kind: { storeThenStatus: 500 } });
  await patient().put("manifest.json", "mine", { ifNoneMatch: true });
  server.faults.push({ times: 1, method: "PUT", kind: { status: 503 } });
  await expect(patient().put("manifest.json", "theirs", { ifNoneMatch: true })).rejects.toMatchObject({
    code: "object_exists",
  });
});

test("a stream cut in the middle goes on at the byte where it stopped", async () => {
  const content = randomBytes(50_000);
  server.objects.set("team/a/file", content);
  server.faults.push({ times: 2, method: "GET", kind: { cutAfterBytes: 10_000 } });
  const chunks: Buffer[] = [];
  for await (const chunk of await patient().read("file")) chunks.push(chunk as Buffer);
  expect(Buffer.concat(chunks).equals(content)).toBe(true);
});

test("a file whose download breaks for good leaves nothing behind", async () => {
  server.objects.set("team/a/file", randomBytes(50_000));
  server.faults.push({ times: 1, method: "GET", kind: { cutAfterBytes: 10_000 } });
  await expect(storage().getFile("file", join(folder, "half", "file"))).rejects.toMatchObject({
    code: "storage_unavailable",
  });
  expect(await readdir(join(folder, "half"))).toEqual([]);
});

test("an s3 URL opens with the settings of the environment", async () => {
  const environment = { S3_ENDPOINT: server.url, S3_ACCESS_KEY_ID: "a", S3_SECRET_ACCESS_KEY: "b" };
  await openStorage("s3://bucket/deep/", environment).put("x", "1");
  expect([...server.objects.keys()]).toEqual(["deep/x"]);
  expect(openStorage("s3://bucket/deep/", environment).url).toBe("s3://bucket/deep");
});

test("an s3 URL without a bucket is refused", () => {
  expect(() => openStorage("s3:///x", {})).toThrow('storage URL "s3:///x" names no bucket: use s3://bucket/prefix');
});
