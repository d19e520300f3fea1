import { randomBytes } from "node:crypto";
import { mkdtemp, open as openFile, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { FaultProxy } from "../../test/fault-proxy.ts";
import { Versitygw } from "../../test/versitygw.ts";
import { openStorage } from "./open-storage.ts";
import { RetryingStorage } from "./retrying-storage.ts";
import { open } from "./s3-connection.ts";
import type { S3Options } from "./s3-options.ts";
import { S3Storage } from "./s3-storage.ts";

const mebibyte = 2 ** 20;
const content = randomBytes(12 * mebibyte + 5);

let server: Versitygw;
let proxy: FaultProxy;
let folder: string;
let path: string;
let prefix = 0;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-s3-"));
  path = join(folder, "in");
  await writeFile(path, content);
  server = await Versitygw.start();
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  prefix += 1;
  proxy = await FaultProxy.start(server.url);
});
afterEach(async () => await proxy[Symbol.asyncDispose]());

/** Through the proxy, in parts of 5 MiB, every test below a prefix of its own. */
function storage(changes: Partial<S3Options> = {}): S3Storage {
  const settings = { prefix: `test-${prefix}`, endpoint: proxy.url, partSizeBytes: 5 * mebibyte, ...changes };
  return new S3Storage(server.options(settings));
}

/** The same with retries that do not wait. */
function patient(budgetMs = 60_000, changes: Partial<S3Options> = {}): RetryingStorage {
  let nowMs = 0;
  const clock = { now: () => nowMs, sleep: async (delayMs: number) => void (nowMs += delayMs), random: () => 0.5 };
  return new RetryingStorage(storage(changes), { budgetMs, clock });
}

async function contentOf(key: string): Promise<Buffer> {
  await storage({ endpoint: server.url }).getFile(key, join(folder, "out"));
  return await readFile(join(folder, "out"));
}

async function openUploads(): Promise<number> {
  const { client } = await open(server.options());
  const answer = await client.send(new ListMultipartUploadsCommand({ Bucket: "bucket", Prefix: `test-${prefix}/` }));
  return answer.Uploads?.length ?? 0;
}

describe("a file in parts", () => {
  test("goes up in parts at once and comes down in ranges at once", async () => {
    await storage().putFile("big", path, { ifNoneMatch: true });
    expect(proxy.requests.filter((request) => request.includes("partNumber="))).toHaveLength(3);
    expect((await contentOf("big")).equals(content)).toBe(true);
  });

  test("that cannot be finished is aborted and leaves neither object nor parts", async () => {
    proxy.faults.push({ times: 100, path: "partNumber=2", kind: { status: 503 } });
    await expect(storage().putFile("big", path)).rejects.toMatchObject({ code: "storage_unavailable" });
    expect(await openUploads()).toBe(0);
    expect(await storage().head("big")).toBeNull();
  });

  test("sends again only the part that failed", async () => {
    proxy.faults.push({ times: 1, path: "partNumber=2", kind: { cutRequestAfterBytes: 100_000 } });
    await storage({ partBudgetMs: 10_000 }).putFile("big", path);
    expect(proxy.requests.filter((request) => request.includes("partNumber="))).toHaveLength(4);
    expect((await contentOf("big")).equals(content)).toBe(true);
  });

  test("asks again only for the range that broke", async () => {
    await storage().putFile("big", path);
    proxy.requests.length = 0;
    proxy.faults.push({ times: 1, method: "GET", kind: { cutAfterBytes: 100_000 } });
    await storage({ partBudgetMs: 10_000 }).getFile("big", join(folder, "out"));
    expect(proxy.requests.length).toBeLessThanOrEqual(5);
    expect((await readFile(join(folder, "out"))).equals(content)).toBe(true);
  });

  test("whose last answer was lost has been stored", async () => {
    proxy.faults.push({ times: 1, method: "POST", path: "uploadId=", kind: { doneThenStatus: 500 } });
    await patient().putFile("big", path, { ifNoneMatch: true });
    expect((await contentOf("big")).equals(content)).toBe(true);
    expect(await openUploads()).toBe(0);
  });

  test("whose key another writer takes while its parts travel is refused at the end and leaves no parts", async () => {
    let isTaken = (): void => undefined;
    const waiting = new Promise<void>((resolve) => (isTaken = resolve));
    proxy.faults.push({ times: 1, method: "POST", path: "uploadId=", kind: { waitFor: waiting } });
    const sending = storage().putFile("big", path, { ifNoneMatch: true });
    await storage({ endpoint: server.url }).put("big", "theirs", { ifNoneMatch: true });
    isTaken();
    await expect(sending).rejects.toMatchObject({ code: "object_exists", message: 'object "big" exists already' });
    expect((await contentOf("big")).toString()).toBe("theirs");
    expect(await openUploads()).toBe(0);
  });

  test("that another writer replaced between two ranges is not mixed", async () => {
    await storage().putFile("big", path);
    const ranges = storage({ parallelParts: 1 });
    let isReplaced = (): void => undefined;
    proxy.faults.push({ times: 1, method: "GET", kind: { cutAfterBytes: 10 } });
    proxy.faults.push({ times: 1, method: "GET", kind: { waitFor: new Promise((resolve) => (isReplaced = resolve)) } });
    await writeFile(join(folder, "other"), randomBytes(content.length));
    const reading = ranges.getFile("big", join(folder, "mixed"));
    await storage({ endpoint: server.url }).putFile("big", join(folder, "other"));
    isReplaced();
    await expect(reading).rejects.toMatchObject({
      code: "object_changed",
      message: 'object "big" was replaced while it was read',
    });
  });
});

describe("bytes that change on their way", () => {
  const damaged = {
    code: "storage_damaged",
    isRetryable: true,
    message: expect.stringMatching(/^object "x" arrived damaged: its checksum is .{8}, storage says .{8}$/),
  };

  test("are refused by the server on their way up, and sent again", async () => {
    const flipped = { method: "PUT", kind: { flipRequestBitAtByte: 1000 } };
    proxy.faults.push({ ...flipped, times: 1 });
    await expect(storage().putFile("x", path)).rejects.toMatchObject({ code: "storage_unavailable" });
    proxy.faults.push({ ...flipped, times: 2 });
    await patient().putFile("x", path);
    expect((await contentOf("x")).equals(content)).toBe(true);
  });

  test.each([
    ["whole", 100 * mebibyte],
    ["in ranges", 5 * mebibyte],
  ])("are found out on their way down, %s, and fetched again", async (_case, partSizeBytes) => {
    await storage().putFile("x", path);
    const flipped = { path: "/x", method: "GET", kind: { flipBitAtByte: 1000 } };
    proxy.faults.push({ ...flipped, times: 2 });
    await expect(storage({ partSizeBytes }).getFile("x", join(folder, "bad"))).rejects.toMatchObject(damaged);
    expect(await readdir(folder)).not.toContain("bad");
    proxy.faults.length = 0;
    proxy.faults.push({ ...flipped, times: 2 });
    await patient(60_000, { partSizeBytes }).getFile("x", join(folder, "good"));
    expect((await readFile(join(folder, "good"))).equals(content)).toBe(true);
  });

  test("in storage itself are told after three tries, not waited for", async () => {
    await storage().put("x", content.subarray(0, 1000));
    const stored = join(server.folder, "bucket", `test-${prefix}`, "x");
    const handle = await openFile(stored, "r+");
    await handle.write("flipped", 100);
    await handle.close();
    const told = {
      code: "object_damaged",
      isRetryable: false,
      message: expect.stringMatching(/^object "x" arrived damaged: .*, each time: it is damaged in storage$/),
    };
    await expect(patient().getFile("x", join(folder, "bad"))).rejects.toMatchObject(told);
    await expect(patient().get("x")).rejects.toMatchObject(told);
    await expect(Array.fromAsync(await patient().read("x"))).rejects.toMatchObject({ code: "storage_damaged" });
    expect(proxy.requests.filter((request) => request.startsWith("GET"))).toHaveLength(7);
  });

  test("are found out in a stream of the whole", async () => {
    await storage().put("x", content.subarray(0, 1000));
    proxy.faults.push({ times: 1, kind: { flipBitAtByte: 10 } });
    await expect(storage().get("x")).rejects.toMatchObject(damaged);
  });
});

describe("storage on a bad day", () => {
  test.each([503, 500, 429])("status %i is unavailable and names the object", async (status) => {
    proxy.faults.push({ times: 1, kind: { status } });
    await expect(storage().put("runs/r/x", "1")).rejects.toMatchObject({
      status: 503,
      isRetryable: true,
      message: `storage answers ${status} for object "runs/r/x"`,
    });
  });

  test("503 SlowDown for a while is ridden out", async () => {
    proxy.faults.push({ times: 5, kind: { status: 503, code: "SlowDown" } });
    await patient().put("x", "content");
    expect(Buffer.from(await storage().get("x")).toString()).toBe("content");
    expect(proxy.requests.filter((request) => request.startsWith("PUT"))).toHaveLength(6);
  });

  test("503 past the budget gives the error of the last try", async () => {
    proxy.faults.push({ times: 1000, kind: { status: 503 } });
    await expect(patient(5_000).put("x", "content")).rejects.toMatchObject({ code: "storage_unavailable" });
  });

  test("a conditional put whose answer was lost has succeeded when its own content lies there", async () => {
    proxy.faults.push({ times: 1, method: "PUT", kind: { doneThenStatus: 500 } });
    await patient().put("manifest.json", "mine", { ifNoneMatch: true });
    proxy.faults.push({ times: 1, method: "PUT", kind: { status: 503 } });
    await expect(patient().put("manifest.json", "theirs", { ifNoneMatch: true })).rejects.toMatchObject({
      code: "object_exists",
    });
  });

  test("a stream cut in the middle goes on at the byte where it stopped", async () => {
    await storage().putFile("file", path);
    proxy.faults.push({ times: 2, method: "GET", kind: { cutAfterBytes: 1_000_000 } });
    const chunks = await Array.fromAsync(await patient().read("file"));
    expect(Buffer.concat(chunks as Buffer[]).equals(content)).toBe(true);
  });

  test("a file whose download breaks for good leaves nothing behind", async () => {
    await storage().put("file", content.subarray(0, 50_000));
    proxy.faults.push({ times: 1, method: "GET", kind: { cutAfterBytes: 10_000 } });
    await expect(storage().getFile("file", join(folder, "half", "file"))).rejects.toMatchObject({
      code: "storage_unavailable",
    });
    expect(await readdir(join(folder, "half"))).toEqual([]);
  });

  test("a server that is killed in the middle of an upload and comes back has the whole file in the end", async () => {
    const sending = new RetryingStorage(storage(), { budgetMs: 60_000, firstDelayMs: 50 }).putFile("killed", path);
    await expect
      .poll(() => proxy.requests.filter((request) => request.includes("partNumber=")).length)
      .toBeGreaterThan(0);
    await server.kill();
    await server.up();
    await sending;
    expect((await contentOf("killed")).equals(content)).toBe(true);
  });

  test("a server that is not there is unavailable", async () => {
    await expect(storage({ endpoint: "http://127.0.0.1:1" }).get("x")).rejects.toMatchObject({
      code: "storage_unavailable",
      message: 'storage does not answer (ECONNREFUSED) for object "x"',
    });
  });
});

describe("a wrong setting is told at once, with what to do", () => {
  const stranger = { accessKeyId: "stranger", secretAccessKey: "x" };
  const settings: readonly [string, () => Partial<S3Options>, string, RegExp][] = [
    [
      "an unknown access key",
      () => ({ credentials: stranger }),
      "storage_refused",
      /^bucket "bucket" at http:\S+ does not know the access key "stranger": correct S3_ACCESS_KEY_ID$/,
    ],
    [
      "a wrong secret",
      () => ({ credentials: { accessKeyId: server.accessKeyId, secretAccessKey: "wrong" } }),
      "storage_refused",
      /^bucket "bucket" at http:\S+ refused the signature: S3_SECRET_ACCESS_KEY does not belong to the access key "drydock-test"$/,
    ],
    [
      "a missing bucket",
      () => ({ bucket: "elsewhere" }),
      "no_such_bucket",
      /^storage has no bucket "elsewhere" at http:\S+: create it, or correct the bucket in STORAGE_URL \(s3:\/\/elsewhere\)$/,
    ],
    [
      "a wrong region",
      () => ({ region: "eu-north-7" }),
      "wrong_region",
      /^bucket "bucket" at http:\S+ is in region "us-east-1", not "eu-north-7": set S3_REGION=us-east-1$/,
    ],
    [
      "TLS where none is spoken",
      () => ({ endpoint: server.url.replace("http:", "https:") }),
      "storage_certificate",
      /does not speak TLS: use http:\/\/ in S3_ENDPOINT$/,
    ],
  ];

  test.each(settings)("%s", async (_case, changes, code, message) => {
    const failing = storage({ endpoint: server.url, ...changes() });
    const told = { code, isRetryable: false, message: expect.stringMatching(message) };
    await expect(failing.put("x", "1")).rejects.toMatchObject(told);
    await expect(failing.putFile("x", path)).rejects.toMatchObject({ isRetryable: false });
    await expect(failing.get("x")).rejects.toMatchObject(told);
    await expect(Array.fromAsync(failing.list("x/"))).rejects.toMatchObject(told);
    await expect(failing.head("x")).rejects.toMatchObject(told);
  });

  test("an access key that the server's accounts do not know, and one without rights", async () => {
    await using strict = await Versitygw.start({ hasAccounts: true });
    await strict.createUser("guest", "guest-secret");
    const as = (accessKeyId: string, secretAccessKey: string): S3Storage =>
      new S3Storage(strict.options({ credentials: { accessKeyId, secretAccessKey } }));
    await expect(as("stranger", "x").put("x", "1")).rejects.toThrow(
      `bucket "bucket" at ${strict.url} does not know the access key "stranger": correct S3_ACCESS_KEY_ID`,
    );
    const refused = `bucket "bucket" at ${strict.url} refused object "x" (403 AccessDenied): check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, and that they may s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and s3:ListBucket there`;
    await expect(as("guest", "guest-secret").put("x", "1")).rejects.toThrow(refused);
    await expect(as("guest", "guest-secret").get("x")).rejects.toThrow(refused);
  });

  test("a clock that is an hour off is named, and worked around once the server has told its time", async () => {
    const skewed = storage({ clockOffsetMs: 3_600_000 });
    await expect(skewed.put("x", "1")).rejects.toMatchObject({
      code: "clock_skewed",
      message: expect.stringMatching(
        /^bucket "bucket" at http:\S+ refused a request for its time: the clock of this machine \(20\S+Z\) and that of storage are more than 15 minutes apart; set them right \(NTP\)$/,
      ),
    });
    await skewed.put("x", "1");
  });

  test.each([
    [{ S3_ENDPOINT: "localhost:9000" }, 'S3_ENDPOINT "localhost:9000" is no URL: use http://host:port or https://host'],
    [{ S3_PART_SIZE_MIB: "1" }, 'S3_PART_SIZE_MIB "1" must be a whole number, 5 or more'],
    [{ S3_PARALLEL_PARTS: "many" }, 'S3_PARALLEL_PARTS "many" must be a whole number, 1 or more'],
  ])("%j", (environment, message) => {
    expect(() => openStorage("s3://bucket/x", environment as Record<string, string>)).toThrow(message);
  });

  test("an s3 URL without a bucket", () => {
    expect(() => openStorage("s3:///x", {})).toThrow('storage URL "s3:///x" names no bucket: use s3://bucket/prefix');
  });
});

test("an s3 URL opens with the settings of the environment", async () => {
  await openStorage("s3://bucket/deep/", server.environment()).put("x", "1");
  expect(await readdir(join(server.folder, "bucket", "deep"))).toEqual(["x"]);
  expect(openStorage("s3://bucket/deep/", server.environment()).url).toBe("s3://bucket/deep");
});

describe("a presigned download", () => {
  test("is read by whoever has the URL, until it expires, under the name it was given", async () => {
    await storage().put("models/a b/1/weights", "bytes");
    const url = await storage().downloadUrl("models/a b/1/weights", {
      expiresInSeconds: 60,
      fileName: "gewichte ä.bin",
      contentType: "text/plain",
    });
    const answer = await fetch(url);
    expect(await answer.text()).toBe("bytes");
    expect(answer.headers.get("content-type")).toBe("text/plain");
    expect(answer.headers.get("content-disposition")).toBe("attachment; filename*=UTF-8''gewichte%20%C3%A4.bin");
    const part = await fetch(url, { headers: { range: "bytes=1-2" } });
    expect([part.status, await part.text()]).toEqual([206, "yt"]);
    expect((await fetch(url.replace("weights", "other"))).status).toBe(403);
    const past = await storage({ clockOffsetMs: -120_000 }).downloadUrl("models/a b/1/weights", {
      expiresInSeconds: 60,
    });
    expect((await fetch(past)).status).toBe(403);
  });

  test("leads to the public endpoint", async () => {
    const url = await storage({ endpoint: "http://inside:9000", publicEndpoint: proxy.url }).downloadUrl("x", {
      expiresInSeconds: 60,
    });
    expect(url).toMatch(new RegExp(`^${proxy.url}/bucket/test-\\d+/x\\?`));
  });
});
