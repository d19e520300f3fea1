import { appendFile, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FolderStorage, S3Storage, sha256 } from "@drydock/kit";
import { Versitygw } from "@drydock/kit/versitygw";
import { StoredModel } from "@drydock/spec";
import { ModelLocator } from "./model-locator.ts";
import { StoredModels } from "./stored-models.ts";

let root: string;
let storage: CountingStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-stored-models-"));
  storage = new CountingStorage(join(root, "store"));
  await mkdir(join(root, "models", "tiny"), { recursive: true });
  await writeFile(join(root, "models", "tiny", "config.json"), "{}");
  await writeFile(join(root, "models", "tiny", "model.safetensors"), "weights");
  await writeFile(join(root, "models", "tiny", "README.md"), "not part of it");
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(root, { recursive: true, force: true });
});

class CountingStorage extends FolderStorage {
  readonly sent: string[] = [];

  override async putFile(...parameters: Parameters<FolderStorage["putFile"]>): Promise<void> {
    this.sent.push(parameters[0]);
    await super.putFile(...parameters);
  }
}

function locator(): ModelLocator {
  return new ModelLocator({
    storage,
    modelsDirectory: join(root, "models"),
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere: true,
  });
}

async function manifestOf(modelKey: string): Promise<StoredModel> {
  const text = Buffer.from(await storage.get(`${modelKey}/manifest.json`)).toString();
  expect(modelKey).toBe(`models-base/${sha256(text)}`);
  return StoredModel.parse(JSON.parse(text));
}

async function makeCard(name: string, kind: string, base: string): Promise<void> {
  const lineage = {
    base,
    baseDigest: null,
    runId: "r",
    step: 1,
    dataset: "d@1",
    datasetDigest: null,
    mode: "lora",
    planDigest: "p",
    scores: { before: null, after: null },
  };
  const card = { format: "drydock-model/1", name, version: 1, kind, base, task: "vqa", systemPrompt: "", image: {} };
  await storage.put(`models/${name}/1/drydock.json`, JSON.stringify({ ...card, lineage }));
}

test("a base model of this machine is uploaded on first use, once, and named by its content", async () => {
  const [first, same] = await Promise.all([locator().base("tiny"), locator().base("tiny")]);
  expect(first.modelDirectory).toBe("");
  expect(same).toEqual(first);
  const modelKey = first.modelKey ?? "";
  expect((await manifestOf(modelKey)).files).toEqual([
    { name: "config.json", sizeBytes: 2, sha256: sha256("{}") },
    { name: "model.safetensors", sizeBytes: 7, sha256: sha256("weights") },
  ]);
  expect(Buffer.from(await storage.get(`${modelKey}/model.safetensors`)).toString()).toBe("weights");
  storage.sent.length = 0;
  expect(await locator().base("tiny")).toEqual(first);
  expect(storage.sent).toEqual([]);
});

test("the same bytes in another folder are the same model; other bytes are another", async () => {
  const models = new StoredModels(storage);
  const key = await models.ofFolder(join(root, "models", "tiny"));
  await mkdir(join(root, "models", "copy"));
  await writeFile(join(root, "models", "copy", "config.json"), "{}");
  await writeFile(join(root, "models", "copy", "model.safetensors"), "weights");
  storage.sent.length = 0;
  expect(await models.ofFolder(join(root, "models", "copy"))).toBe(key);
  expect(storage.sent).toEqual([]);
  await appendFile(join(root, "models", "copy", "model.safetensors"), "!");
  expect(await models.ofFolder(join(root, "models", "copy"))).not.toBe(key);
});

test("what is missing in storage, as after an upload that was killed, is sent again", async () => {
  const models = new StoredModels(storage);
  const key = await models.ofFolder(join(root, "models", "tiny"));
  await storage.remove(`${key}/manifest.json`);
  await storage.remove(`${key}/model.safetensors`);
  storage.sent.length = 0;
  expect(await models.ofFolder(join(root, "models", "tiny"))).toBe(key);
  expect(storage.sent).toEqual([`${key}/model.safetensors`]);
  await manifestOf(key);
});

test("models that Drydock made stay where they are and only get a list with digests", async () => {
  await storage.put("models/small/1/adapter_model.safetensors", "adapter");
  await makeCard("small", "adapter", "tiny");
  const { modelKey, adapterKey, adapterDirectory, card } = await locator().locate("small@1");
  expect(card).toMatchObject({ name: "small" });
  expect(adapterDirectory).toBeNull();
  expect(modelKey).toBe((await locator().base("tiny")).modelKey);
  expect((await manifestOf(adapterKey ?? "")).files).toEqual([
    {
      name: "adapter_model.safetensors",
      key: "models/small/1/adapter_model.safetensors",
      sizeBytes: 7,
      sha256: sha256("adapter"),
    },
    expect.objectContaining({ name: "drydock.json", key: "models/small/1/drydock.json" }),
  ]);
  await storage.put("models/full/1/config.json", "{}");
  await makeCard("full", "full", "tiny");
  const { files } = await manifestOf((await locator().base("full@1")).modelKey ?? "");
  expect(files.map(({ key }) => key)).toEqual(["models/full/1/config.json", "models/full/1/drydock.json"]);
});

test("a model folder in storage is named by its URL", async () => {
  await storage.put("mine/qwen/config.json", "{}");
  const { modelKey } = await locator().base({ uri: `${storage.url}/mine/qwen/` });
  expect((await manifestOf(modelKey ?? "")).files.map(({ key }) => key)).toEqual(["mine/qwen/config.json"]);
  await expect(locator().base({ uri: `${storage.url}/nothing` })).rejects.toThrow(
    `model.uri: ${storage.url}/nothing in storage has no config.json`,
  );
  await expect(locator().base({ uri: "gs://elsewhere/model" })).rejects.toThrow(
    'model.uri "gs://elsewhere/model" is not understood here: use a folder, file:///folder, or s3://bucket/folder',
  );
});

test("a model folder in a bucket of its own is copied once, for workers here and elsewhere", async () => {
  await using server = await Versitygw.start();
  const bucket = new S3Storage(server.options());
  await bucket.put("qwen/config.json", "{}");
  await bucket.put("qwen/model.safetensors", "weights");
  for (const [name, value] of Object.entries(server.environment())) vi.stubEnv(name, value);
  const uri = "s3://bucket/qwen";
  const here = new ModelLocator({
    storage,
    modelsDirectory: root,
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere: false,
  });
  const { modelDirectory } = await here.base({ uri });
  expect((await readdir(modelDirectory)).toSorted()).toEqual(["config.json", "model.safetensors"]);
  const { modelKey } = await locator().base({ uri });
  expect((await manifestOf(modelKey ?? "")).files.map(({ sha256: digest }) => digest)).toEqual([
    sha256("{}"),
    sha256("weights"),
  ]);
  await expect(here.base({ uri: "s3://bucket/nothing" })).rejects.toThrow(
    "model.uri: s3://bucket/nothing has no config.json",
  );
});

test("a folder without a model is refused", async () => {
  await mkdir(join(root, "empty"));
  await expect(new StoredModels(storage).ofFolder(join(root, "empty"))).rejects.toThrow(
    `folder ${join(root, "empty")} has no config.json`,
  );
  await expect(new StoredModels(storage).ofPrefix("models/none/1/")).rejects.toThrow(
    "storage holds no model at models/none/1/",
  );
});
