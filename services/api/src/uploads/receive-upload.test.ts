import { spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { FolderStorage, UnavailableError, markOfThisProcess, type ObjectStorage } from "@drydock/kit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { receiveUpload, removeLeftSpools, type IncomingFile } from "./receive-upload.ts";

const limits = { uploadFileBytes: 100, uploadTotalBytes: 100, uploadFiles: 3 } as Parameters<typeof receiveUpload>[3];
let folder: string;
let storage: ObjectStorage;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "drydock-receive-"));
  await mkdir(join(folder, "spool"));
  storage = new FolderStorage(join(folder, "storage"));
});
afterEach(async () => await rm(folder, { recursive: true, force: true }));

async function* incoming(...names: string[]): AsyncGenerator<IncomingFile> {
  for (const name of names) yield { name, content: Readable.from([Buffer.from("pixels")]) };
}

async function leftOvers(): Promise<string[]> {
  return [
    ...(await readdir(join(folder, "spool"))),
    ...(await Array.fromAsync(storage.list(""))).map(({ key }) => key),
  ];
}

test("a disk that is full while a file arrives is told with its folder and what to do; nothing stays", async () => {
  const spool = { folder: join(folder, "spool"), open: () => createWriteStream("/dev/full") };
  await expect(receiveUpload("up_1", incoming("a.png"), storage, limits, spool)).rejects.toMatchObject({
    status: 507,
    code: "disk_full",
    message: `the server's disk is full: "a.png" does not fit in ${join(folder, "spool")}. Free space there, then send the upload again`,
  });
  expect(await leftOvers()).toEqual([]);
});

test("storage that is full while a file is stored is told with its folder, and the files before it go", async () => {
  const put = storage.putFile.bind(storage);
  storage.putFile = async (key, path) => {
    if (key.endsWith("b.png")) throw new UnavailableError("storage_full", "the disk is full");
    await put(key, path);
  };
  const spool = { folder: join(folder, "spool"), open: createWriteStream };
  await expect(receiveUpload("up_1", incoming("a.png", "b.png"), storage, limits, spool)).rejects.toMatchObject({
    status: 507,
    message: `the server's disk is full: "b.png" does not fit in ${join(folder, "storage")}. Free space there, then send the upload again`,
  });
  expect(await leftOvers()).toEqual([]);
});

test("what a killed process received in part is removed; what others receive and other files stay", async () => {
  const mark = import.meta.resolve("@drydock/kit");
  const script = `import { markOfThisProcess } from ${JSON.stringify(mark)}; console.log(markOfThisProcess());`;
  const killed = spawnSync(process.execPath, ["--input-type=module", "--eval", script]).stdout.toString().trim();
  const own = `drydock-upload.${markOfThisProcess()}.bb`;
  for (const name of [`drydock-upload.${killed}.aa`, own, "letter.txt"]) {
    await mkdir(join(folder, "spool", name));
    await writeFile(join(folder, "spool", name, "file"), "half");
  }
  await removeLeftSpools(join(folder, "spool"));
  expect(await readdir(join(folder, "spool"))).toEqual([own, "letter.txt"]);
});
