import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, statfs, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { UnavailableError, sha256 } from "@drydock/kit";
import { NodeCache, type CachedContent } from "./node-cache.ts";

const mebibyte = 2 ** 20;

let root: string;
let directory: string;
const opened: NodeCache[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-cache-"));
  directory = join(root, "cache");
});
afterEach(async () => {
  for (const cache of opened.splice(0)) await cache.close();
  await rm(root, { recursive: true, force: true });
});

async function openCache(limitBytes = 100 * mebibyte): Promise<NodeCache> {
  const cache = await NodeCache.open({ directory, limitBytes });
  opened.push(cache);
  return cache;
}

/** A content of one mebibyte, and how often it was fetched. */
class Source {
  readonly bytes: Uint8Array;
  readonly content: CachedContent;
  readonly name: string;
  fetches = 0;

  constructor(name: string, bytes: Uint8Array = randomBytes(mebibyte)) {
    this.name = name;
    this.bytes = bytes;
    this.content = { sha256: sha256(bytes), sizeBytes: bytes.length, what: `picture ${name}` };
  }

  async in(cache: NodeCache): Promise<string> {
    return await cache.fileIn(this.name, this.content, async (path) => {
      this.fetches += 1;
      await writeFile(path, this.bytes);
    });
  }

  get entry(): string {
    return join(directory, "objects", this.content.sha256.slice(0, 2), this.content.sha256);
  }
}

async function isThere({ entry }: Source): Promise<boolean> {
  return await stat(entry).then(
    () => true,
    () => false,
  );
}

test("a file is fetched once, whoever asks and under whatever name", async () => {
  const cache = await openCache();
  const source = new Source("weld.png");
  const [path, again] = await Promise.all([source.in(cache), source.in(cache)]);
  expect(again).toBe(path);
  expect((await readFile(path)).equals(source.bytes)).toBe(true);
  const other = new Source("other/name.png", source.bytes);
  await other.in(cache);
  await source.in(await openCache());
  expect([source.fetches, other.fetches]).toEqual([1, 0]);
});

test("an entry cannot be written to by mistake", async () => {
  const path = await new Source("weld.png").in(await openCache());
  expect((await stat(path)).mode & 0o222).toBe(0);
});

const damages: readonly [string, (source: Source) => Promise<void>][] = [
  ["cut short", async ({ entry, bytes }) => await writeFile(entry, bytes.subarray(0, 100))],
  [
    "changed",
    async ({ entry, bytes }) => {
      const changed = Buffer.from(bytes);
      changed[7]! ^= 1;
      await writeFile(entry, changed);
    },
  ],
  [
    "changed without a trace in its time, which only a new process sees",
    async ({ entry, bytes }) => {
      const { atime, mtime } = await stat(entry);
      const changed = Buffer.from(bytes);
      changed[7]! ^= 1;
      await writeFile(entry, changed);
      await utimes(entry, atime, mtime);
    },
  ],
];

test.each(damages)("an entry that is %s is found out and fetched again", async (_case, damage) => {
  const source = new Source("weld.png");
  const first = await openCache();
  await source.in(first);
  await first.close();
  await chmod(source.entry, 0o644);
  await damage(source);
  const path = await source.in(await openCache());
  expect((await readFile(path)).equals(source.bytes)).toBe(true);
  expect(source.fetches).toBe(2);
});

test("what storage holds under the key must be what was stored there", async () => {
  const cache = await openCache();
  const source = new Source("weld.png");
  const fetched = cache.fileIn("x", { ...source.content, sha256: "0".repeat(64) }, async (path) => {
    await writeFile(path, source.bytes);
  });
  await expect(fetched).rejects.toMatchObject({
    code: "object_differs",
    message: `picture weld.png in storage is not what it was when it was stored (sha256 ${source.content.sha256.slice(0, 12)}…, expected 000000000000…): import or publish it again`,
  });
  expect((await readdir(join(directory, "objects"))).length).toBe(0);
});

test("a fetch that failed is tried again by the next who asks", async () => {
  const cache = await openCache();
  const source = new Source("weld.png");
  const fail = async (): Promise<void> => await Promise.reject(new UnavailableError("storage_unavailable", "away"));
  await expect(cache.fileIn(source.name, source.content, fail)).rejects.toThrow("away");
  await source.in(cache);
  expect(source.fetches).toBe(1);
});

test("what was used least recently goes when room is needed", async () => {
  const first = await openCache(3 * mebibyte);
  const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => new Source(name)) as [Source, Source, Source, Source];
  for (const source of [a, b, c]) await source.in(first);
  await first.close();
  for (const [source, second] of [
    [b, 1],
    [a, 2],
    [c, 3],
  ] as const)
    await utimes(source.entry, new Date(1_700_000_000_000 + second * 1000), (await stat(source.entry)).mtime);
  const next = await openCache(3 * mebibyte);
  await b.in(next); // used again: a is now the oldest
  await d.in(next);
  expect(await Promise.all([a, b, c, d].map(isThere))).toEqual([false, true, true, true]);
  expect(b.fetches).toBe(1);
});

test("what is in use never goes; what does not fit beside it says who has to make room", async () => {
  const user = await openCache(2 * mebibyte);
  const [a, b, c] = ["a", "b", "c"].map((name) => new Source(name)) as [Source, Source, Source];
  const used = [await a.in(user), await b.in(user)];
  const other = await openCache(2 * mebibyte);
  await expect(c.in(other)).rejects.toMatchObject({
    code: "cache_full",
    isRetryable: true,
    message: `picture c of 0.001 GiB does not fit into the cache ${directory}: of its 0.002 GiB, 0.002 GiB are in use by workers; raise DRYDOCK_CACHE_GIB, or wait until one ends`,
  });
  for (const [index, path] of used.entries()) expect((await readFile(path)).equals([a, b][index]!.bytes)).toBe(true);
  await user.close();
  await c.in(other);
  expect(await isThere(c)).toBe(true);
});

test("a file that can never fit says which setting to raise", async () => {
  await expect(new Source("huge", randomBytes(2 * mebibyte)).in(await openCache(mebibyte))).rejects.toMatchObject({
    code: "cache_too_small",
    isRetryable: false,
    message: `picture huge has 0.002 GiB, and the cache ${directory} may hold 0.001 GiB: raise DRYDOCK_CACHE_GIB`,
  });
});

test("without a limit the cache may hold four fifths of its disk", async () => {
  const cache = await NodeCache.open({ directory, limitBytes: null });
  opened.push(cache);
  const { bsize, blocks } = await statfs(root);
  expect(cache.limitBytes).toBe(Math.floor(bsize * blocks * 0.8));
});

test("a full disk is first met by removing what nobody uses, then told", async () => {
  const before = await openCache();
  const unused = new Source("unused");
  await unused.in(before);
  await before.close();
  const cache = await openCache();
  const source = new Source("weld.png");
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  let tries = 0;
  const fullOnce = async (path: string): Promise<void> => {
    if (++tries === 1) throw full;
    await writeFile(path, source.bytes);
  };
  await cache.fileIn("once", source.content, fullOnce);
  expect(await isThere(unused)).toBe(false);
  const other = new Source("other.png");
  await expect(cache.fileIn("always", other.content, async () => await Promise.reject(full))).rejects.toMatchObject({
    code: "storage_full",
    message: `the disk of the cache ${directory} is full: picture other.png of 0.001 GiB was not fetched; free space, or let DRYDOCK_CACHE name a folder on a larger disk`,
  });
});

/** A process that takes a file into the cache, says so, and stays. */
const user = `
import { readFile, writeFile } from "node:fs/promises";
import { NodeCache } from ${JSON.stringify(new URL("./node-cache.ts", import.meta.url).href)};
const { directory, limitBytes, content, source, log } = JSON.parse(process.argv[1]);
const cache = await NodeCache.open({ directory, limitBytes });
const path = await cache.fileIn("file", content, async (target) => {
  await writeFile(log, process.pid + "\\n", { flag: "a" });
  await writeFile(target, await readFile(source));
});
console.log((await readFile(path)).length);
setInterval(() => {}, 1000);
`;

function startUser(source: Source, log: string, from: string) {
  const told = JSON.stringify({ directory, limitBytes: 2 * mebibyte, content: source.content, source: from, log });
  return spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", user, told],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
}

test("several ranks of one node fetch a file once", async () => {
  const source = new Source("weights", randomBytes(2 * mebibyte));
  const from = join(root, "source");
  await writeFile(from, source.bytes);
  const ranks = Array.from({ length: 4 }, () => startUser(source, join(root, "log"), from));
  try {
    const answers = await Promise.all(ranks.map(async ({ stdout }) => (await once(stdout, "data")) as [Buffer]));
    expect(answers.map(([size]) => Number(size))).toEqual([1, 2, 3, 4].map(() => source.bytes.length));
    expect((await readFile(join(root, "log"), "utf8")).trim().split("\n")).toHaveLength(1);
  } finally {
    for (const rank of ranks) rank.kill("SIGKILL");
  }
});

test("what a process that was killed used, locked or had half fetched is free again", async () => {
  const source = new Source("weights", randomBytes(2 * mebibyte));
  const from = join(root, "source");
  await writeFile(from, source.bytes);
  const rank = startUser(source, join(root, "log"), from);
  await once(rank.stdout, "data");
  const [lease = ""] = await readdir(join(directory, "leases"));
  await writeFile(join(directory, "leases", lease, "half.partial"), "half");
  const next = new Source("next", randomBytes(2 * mebibyte));
  await mkdir(join(directory, "locks"), { recursive: true });
  await writeFile(join(directory, "locks", next.content.sha256), lease.split(".")[0] ?? "");
  const ended = once(rank, "exit");
  rank.kill("SIGKILL");
  await ended;
  const cache = await openCache(2 * mebibyte);
  await next.in(cache);
  expect(await readdir(join(directory, "leases"))).not.toContain(lease);
  expect(await readdir(join(directory, "locks"))).toEqual([]);
  expect(await isThere(source)).toBe(false);
});
