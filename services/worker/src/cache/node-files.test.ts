import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage, canonicalJson, sha256, type ObjectStorage } from "@drydock/kit";
import type { DataRecord, RecordImage, StoredModel } from "@drydock/spec";
import { NodeFiles } from "./node-files.ts";

let root: string;
let storage: FolderStorage;
const opened: NodeFiles[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-node-files-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => {
  for (const files of opened.splice(0)) await files.close();
  await rm(root, { recursive: true, force: true });
});

const image: RecordImage = {
  key: "datasets/d/images/ab.png",
  sha256: sha256("bytes"),
  fileName: "weld.png",
  width: 2,
  height: 2,
  sizeBytes: 5,
};
const record: DataRecord = {
  rowId: "r1",
  split: "train",
  task: "vqa",
  source: { file: "a.jsonl", row: 1 },
  images: [image],
  messages: [{ role: "user", content: "<image>?" }],
};

/** The folder as if it were elsewhere. */
class Elsewhere extends FolderStorage {
  override localPath = undefined as never;
}

function filesOf(from: ObjectStorage): NodeFiles {
  const files = new NodeFiles(from, { directory: join(root, "cache"), limitBytes: 2 ** 20 }, { budgetMs: 0 });
  opened.push(files);
  return files;
}

function elsewhere(): NodeFiles {
  return filesOf(new Elsewhere(join(root, "store")));
}

test("a picture and records in a folder are read where they lie, and no cache is made", async () => {
  await storage.put(image.key, "bytes");
  const lines = `${JSON.stringify(record)}\n`;
  await storage.put("datasets/d/records.jsonl", lines);
  const files = filesOf(storage);
  expect(await files.pathOf(image)).toBe(join(root, "store", image.key));
  expect(await files.records("datasets/d/records.jsonl", sha256(lines))).toEqual([record]);
  expect(await readdir(root)).toEqual(["store"]);
});

test("a picture that is elsewhere is fetched once and then a file of the node", async () => {
  await storage.put(image.key, "bytes");
  const files = elsewhere();
  const [path, same] = await Promise.all([files.pathOf(image), files.pathOf(image)]);
  expect(same).toBe(path);
  expect(await readFile(path, "utf8")).toBe("bytes");
  await storage.remove(image.key);
  expect(await readFile(await elsewhere().pathOf(image), "utf8")).toBe("bytes");
});

test.each(["in a folder", "elsewhere"])(
  "a picture %s that is gone is bad data, named as the user named it",
  async (place) => {
    const files = place === "elsewhere" ? elsewhere() : filesOf(storage);
    await expect(files.pathOf(image)).rejects.toMatchObject({
      code: "bad_data",
      message: "picture weld.png (datasets/d/images/ab.png) is not in storage: import the data set again",
    });
  },
);

test("a picture that is not the one that was imported is bad data", async () => {
  await storage.put(image.key, "other");
  await expect(elsewhere().pathOf(image)).rejects.toMatchObject({
    code: "bad_data",
    message: expect.stringMatching(
      /^picture weld\.png \(datasets\/d\/images\/ab\.png\) in storage is not what it was when it was stored .* import or publish it again$/,
    ),
  });
});

test("records that are elsewhere are fetched once; without a digest they are read from storage", async () => {
  const lines = `${JSON.stringify(record)}\n`;
  await storage.put("datasets/d/records.jsonl", lines);
  expect(await elsewhere().records("datasets/d/records.jsonl", sha256(lines))).toEqual([record]);
  expect(await elsewhere().records("datasets/d/records.jsonl", null)).toEqual([record]);
  await storage.put("datasets/d/records.jsonl", lines.replace("r1", "r2"));
  await expect(elsewhere().records("datasets/d/records.jsonl", "0".repeat(64))).rejects.toMatchObject({
    code: "bad_data",
    message: expect.stringMatching(/^data file datasets\/d\/records\.jsonl in storage is not what it was/),
  });
});

test.each([null, "0".repeat(64)])("records that are gone are bad data, digest %s", async (digest) => {
  await expect(elsewhere().records("records.jsonl", digest)).rejects.toThrow(
    "the data set's records records.jsonl are not in storage: import the data set again",
  );
});

async function storeModel(files: Readonly<Record<string, string>>): Promise<string> {
  const manifest: StoredModel = { format: "drydock-stored-model/1", files: [] };
  for (const [name, content] of Object.entries(files)) {
    const key = `somewhere/${name}`;
    await storage.put(key, content);
    manifest.files.push({ name, key, sizeBytes: content.length, sha256: sha256(content) });
  }
  const text = canonicalJson(manifest);
  await storage.put(`models-base/${sha256(text)}/manifest.json`, text);
  return `models-base/${sha256(text)}`;
}

test("a model is a folder of its files, and two workers share their bytes", async () => {
  const key = await storeModel({ "config.json": "{}", "model.safetensors": "weights" });
  const [first, second] = [await elsewhere().model(key), await elsewhere().model(key)];
  expect((await readdir(first)).toSorted()).toEqual(["config.json", "model.safetensors"]);
  expect(first).not.toBe(second);
  expect(await readFile(join(second, "model.safetensors"), "utf8")).toBe("weights");
  await opened[0]?.close();
  await expect(readdir(first)).rejects.toThrow("ENOENT");
  expect(await readFile(join(second, "config.json"), "utf8")).toBe("{}");
});

test("a model whose list or file was changed in storage is refused by name", async () => {
  const key = await storeModel({ "config.json": "{}", "model.safetensors": "weights" });
  await storage.put("somewhere/model.safetensors", "weighty");
  await expect(elsewhere().model(key)).rejects.toThrow(
    /^model file model\.safetensors \(somewhere\/model\.safetensors\) in storage is not what it was when it was stored/,
  );
  await storage.remove("somewhere/model.safetensors");
  await expect(elsewhere().model(key)).rejects.toThrow('there is no object "somewhere/model.safetensors" in storage');
  await storage.put(`${key}/manifest.json`, "{}");
  await expect(elsewhere().model(key)).rejects.toThrow(
    `${key}/manifest.json is not what its key says: remove it, so that it is stored again`,
  );
});

test("a model's file name cannot lead out of its folder", async () => {
  const key = await storeModel({ "../config.json": "{}" }).catch(() => null);
  expect(key).toBeNull();
  const text = canonicalJson({
    format: "drydock-stored-model/1",
    files: [{ name: "../x", key: "x", sizeBytes: 1, sha256: sha256("x") }],
  });
  await storage.put(`models-base/${sha256(text)}/manifest.json`, text);
  await expect(elsewhere().model(`models-base/${sha256(text)}`)).rejects.toMatchObject({ code: "damaged_model" });
});

test("an unwritable cache folder says so", async () => {
  await storage.put(image.key, "bytes");
  await writeFile(join(root, "cache"), "a file, no folder");
  const cache = join(root, "cache");
  await expect(elsewhere().pathOf(image)).rejects.toMatchObject({
    message: expect.stringMatching(
      new RegExp(`^the cache folder ${cache} cannot be used \\(ENOTDIR.*\\): let DRYDOCK_CACHE name a folder that`),
    ),
  });
});
