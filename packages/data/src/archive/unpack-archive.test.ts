import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { packTar, type TarHeader } from "modern-tar";
import { afterEach, beforeEach, expect, test } from "vitest";
import { zip } from "../../test/archives.ts";
import type { ArchiveLimits } from "./archive-guard.ts";
import { unpackArchive } from "./unpack-archive.ts";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-archive-"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

async function unpack(bytes: Uint8Array, limits: Partial<ArchiveLimits> = {}) {
  await writeFile(join(root, "archive"), bytes);
  return await unpackArchive(join(root, "archive"), join(root, "out"), { limits });
}

async function tar(
  entries: readonly (Partial<TarHeader> & { name: string; content?: string | Uint8Array })[],
): Promise<Uint8Array> {
  return await packTar(
    entries.map(({ content = "", ...header }) => {
      const body = Buffer.from(content);
      const isFile = header.type === undefined || header.type === "file";
      return isFile ? { header: { size: body.length, ...header }, body } : { header: { size: 0, ...header } };
    }),
  );
}

const files = [
  { name: "images/a.txt", content: "first" },
  { name: "ä b.txt", content: "second" },
  { name: "empty.txt", content: "" },
];

test.each([
  [".zip", async () => zip(files)],
  [".tar", async () => await tar([{ name: "images/", type: "directory" }, ...files])],
  [".tar.gz", async () => gzipSync(await tar(files))],
])("a %s is unpacked whatever its name", async (_kind, make) => {
  expect(await unpack(await make())).toEqual({ files: 3, bytes: 11 });
  expect(await readFile(join(root, "out/images/a.txt"), "utf8")).toBe("first");
  expect(await readFile(join(root, "out/ä b.txt"), "utf8")).toBe("second");
});

test.each<[string, () => Promise<Uint8Array>, string]>([
  [
    "a zip entry that climbs out",
    async () =>
      zip([
        { name: "ok.txt", content: "x" },
        { name: "../evil.txt", content: "x" },
      ]),
    'entry "../evil.txt" of the archive leads out of its folder: pack the folder again',
  ],
  [
    "a tar entry that climbs out",
    async () => await tar([{ name: "a/../../evil.txt", content: "x" }]),
    'entry "a/../../evil.txt" of the archive leads out of its folder: pack the folder again',
  ],
  [
    "a zip entry with backslashes that climbs out",
    async () => zip([{ name: "..\\evil.txt", content: "x" }]),
    "of the archive leads out of its folder",
  ],
  [
    "an absolute path in a zip",
    async () => zip([{ name: "/etc/evil", content: "x" }]),
    'entry "/etc/evil" of the archive',
  ],
  [
    "an absolute path in a tar",
    async () => await tar([{ name: "/etc/evil", content: "x" }]),
    'entry "/etc/evil" of the archive has an absolute path: pack the folder with relative paths',
  ],
  [
    "a link in a zip",
    async () => zip([{ name: "link", content: "/etc/passwd", mode: 0o120777 }]),
    'entry "link" of the archive is a link: pack the file itself',
  ],
  [
    "a symbolic link in a tar",
    async () => await tar([{ name: "link", type: "symlink", linkname: "/etc/passwd" }]),
    'entry "link" of the archive is a link',
  ],
  [
    "a hard link in a tar",
    async () => await tar([{ name: "hard", type: "link", linkname: "../../x" }]),
    'entry "hard" of the archive is a link',
  ],
  [
    "a device in a tar",
    async () => await tar([{ name: "null", type: "character-device" }]),
    'entry "null" of the archive is neither a file nor a folder',
  ],
  [
    "one file twice",
    async () =>
      zip([
        { name: "a", content: "1" },
        { name: "a", content: "2" },
      ]),
    'entry "a" of the archive collides with another entry',
  ],
  [
    "a file that is also a folder",
    async () =>
      zip([
        { name: "a", content: "1" },
        { name: "a/b", content: "2" },
      ]),
    'entry "a/b" of the archive collides with another entry',
  ],
])("%s is refused by name, and nothing lands outside", async (_case, make, message) => {
  await expect(unpack(await make())).rejects.toMatchObject({
    code: "unsafe_archive_entry",
    message: expect.stringContaining(message),
  });
  expect((await readdir(root)).toSorted()).toEqual(["archive", "out"]);
});

const zeros = Buffer.alloc(4 * 2 ** 20);

test.each<[string, () => Promise<Uint8Array>]>([
  ["zip", async () => zip([{ name: "zeros", content: zeros }])],
  ["tar.gz", async () => gzipSync(await tar([{ name: "zeros", content: zeros }]))],
])("zeros in a %s are stopped by their ratio before they fill the disk", async (_kind, make) => {
  await expect(unpack(await make(), { ratioFreeBytes: 2 ** 20 })).rejects.toMatchObject({
    code: "archive_bomb",
    message: expect.stringContaining(
      'the archive unpacks to more than 200 times its size (at entry "zeros"), as a decompression bomb does',
    ),
  });
});

test("zeros after the end of a tar.gz are stopped too", async () => {
  const bytes = gzipSync(Buffer.concat([await tar(files), zeros]));
  await expect(unpack(bytes, { ratioFreeBytes: 2 ** 20 })).rejects.toMatchObject({ code: "archive_bomb" });
});

test("an entry that declares 10 GB is refused before a byte is read", async () => {
  const archive = zip([{ name: "zeros", content: "0", declaredBytes: 0xffff_fffe }]);
  await expect(unpack(archive)).rejects.toMatchObject({
    code: "archive_too_large",
    message: 'entry "zeros" of the archive unpacks to more than 2048 MiB: leave it out or split it',
  });
  expect(await readdir(join(root, "out"))).toEqual([]);
});

test("an entry that understates its size is stopped where it says it ends", async () => {
  const archive = zip([{ name: "zeros", content: zeros, declaredBytes: 10 }]);
  await expect(unpack(archive)).rejects.toMatchObject({ code: "archive_broken" });
});

test.each<[string, Partial<ArchiveLimits>, string]>([
  ["entries", { entries: 2 }, "the archive holds more than 2 entries: split it into several data sets"],
  ["bytes of one file", { entryBytes: 5 }, 'entry "ä b.txt" of the archive unpacks to more than 5 bytes'],
  ["bytes of all files", { totalBytes: 8 }, 'the archive unpacks to more than 8 bytes (at entry "ä b.txt")'],
])("too many %s are refused", async (_case, limits, message) => {
  await expect(unpack(zip(files), limits)).rejects.toMatchObject({
    code: "archive_too_large",
    message: expect.stringContaining(message),
  });
});

test.each<[string, () => Promise<Uint8Array>, string]>([
  ["a file that is no archive", async () => Buffer.from("hello"), "archive_unknown"],
  ["an empty file", async () => Buffer.alloc(0), "archive_unknown"],
  ["a zip cut off", async () => zip(files).subarray(0, 60), "archive_broken"],
  [
    "a tar.gz cut off",
    async () =>
      gzipSync(
        await tar([
          { name: "a", content: Buffer.from(Array.from({ length: 9999 }, (_, index) => (index * 7919) % 251)) },
        ]),
      ).subarray(0, 200),
    "archive_broken",
  ],
  [
    "a tar cut off in a file",
    async () => (await tar([{ name: "a", content: zeros }])).subarray(0, 10_000),
    "archive_broken",
  ],
])("%s is refused", async (_case, make, code) => {
  await expect(unpack(await make())).rejects.toMatchObject({ code });
});
