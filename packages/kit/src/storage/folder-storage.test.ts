import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { markOfThisProcess } from "../process-mark.ts";
import { FolderStorage } from "./folder-storage.ts";

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-storage-"));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

test("of many writers with ifNoneMatch exactly one wins", async () => {
  const storage = new FolderStorage(join(root, "race"));
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, writer) => storage.put("race", `${writer}`, { ifNoneMatch: true })),
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test("what processes that were killed left is removed at the first put; what others are writing stays", async () => {
  const folder = join(root, "tidy");
  await mkdir(join(folder, ".tmp"), { recursive: true });
  const mark = new URL("../process-mark.ts", import.meta.url).href;
  const script = `import { markOfThisProcess } from ${JSON.stringify(mark)}; console.log(markOfThisProcess());`;
  const killed = spawnSync(process.execPath, ["--input-type=module", "--eval", script]).stdout.toString().trim();
  const elsewhere = `0ther000-1-7-7`;
  const names = {
    ofKilled: `${killed}.aa`,
    ofThis: `${markOfThisProcess()}.bb`,
    ofElsewhere: `${elsewhere}.cc`,
    longAgo: `${elsewhere}.dd`,
    before: "0123456789abcdef01234567",
  };
  for (const name of Object.values(names)) await writeFile(join(folder, ".tmp", name), "half");
  const twoDaysAgo = new Date(Date.now() - 48 * 3_600_000);
  for (const name of [names.longAgo, names.before]) await utimes(join(folder, ".tmp", name), twoDaysAgo, twoDaysAgo);
  await new FolderStorage(folder).put("x", "1");
  expect((await readdir(join(folder, ".tmp"))).toSorted()).toEqual([names.ofElsewhere, names.ofThis].toSorted());
});

test("unfinished objects are not listed", async () => {
  const storage = new FolderStorage(join(root, "tidy"));
  expect((await Array.fromAsync(storage.list(""))).map(({ key }) => key)).toEqual(["x"]);
});

test("a folder goes with its last object; the root stays", async () => {
  const folder = join(root, "emptied");
  const storage = new FolderStorage(folder);
  for (const key of ["runs/1/a/x", "runs/2/y"]) await storage.put(key, "1");
  await storage.remove("runs/1/a/x");
  expect(await readdir(join(folder, "runs"))).toEqual(["2"]);
  await storage.remove("runs/2/y");
  await storage.remove("runs/2/y");
  expect(await readdir(folder)).toEqual([".tmp"]);
});

test("writers and removers of one folder do not disturb each other", async () => {
  const storage = new FolderStorage(join(root, "busy"));
  const work = Array.from({ length: 40 }, async (_, index) => {
    await storage.put(`a/b/${index}`, "1");
    await storage.remove(`a/b/${index}`);
  });
  await expect(Promise.all(work)).resolves.toHaveLength(40);
});
