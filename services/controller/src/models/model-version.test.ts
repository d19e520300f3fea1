import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import { ModelLocator } from "./model-locator.ts";
import { reserveModelVersion } from "./model-version.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-models-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const locator = (workersAreElsewhere = false): ModelLocator =>
  new ModelLocator({
    storage,
    modelsDirectory: join(root, "models"),
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere,
  });

test("runs of one name get versions of their own, and the same one each time they ask", async () => {
  const versions = await Promise.all(
    ["run_1", "run_2", "run_3"].map(async (run) => await reserveModelVersion(storage, "weld", run)),
  );
  expect(new Set(versions)).toEqual(new Set([1, 2, 3]));
  expect(await reserveModelVersion(storage, "weld", "run_2")).toBe(versions[1]);
  expect(await reserveModelVersion(storage, "other", "run_2")).toBe(1);
});

test("weights that are not there are named with where they were looked for", async () => {
  await expect(locator().base("qwen3-vl-2b")).rejects.toThrow(
    `model "qwen3-vl-2b": the catalogue knows it, but its weights are not on this machine; put its Hugging Face folder at ${join(root, "models", "qwen3-vl-2b")}, or give model.uri`,
  );
  await expect(locator().base("nonsense")).rejects.toThrow('model "nonsense": no such model is known');
  await expect(locator().base("weld@7")).rejects.toThrow('there is no model "weld@7"');
  await expect(locator().base({ uri: join(root, "empty") })).rejects.toThrow("has no config.json");
});

test("a model that Drydock made is copied once; an adapter comes with its base and is no base itself", async () => {
  await storage.put("models/full/1/config.json", "{}");
  const card = (kind: string, base: string) =>
    JSON.stringify({
      format: "drydock-model/1",
      name: "m",
      version: 1,
      kind,
      base,
      task: "vqa",
      systemPrompt: "",
      image: {},
      lineage: {
        base,
        baseDigest: null,
        runId: "r",
        step: 1,
        dataset: "d@1",
        datasetDigest: null,
        mode: "lora",
        planDigest: "p",
        scores: { before: null, after: null },
      },
    });
  await storage.put("models/full/1/drydock.json", card("full", "base"));
  await storage.put("models/small/1/drydock.json", card("adapter", "full@1"));
  expect(await locator().locate("small@1")).toMatchObject({
    modelDirectory: join(root, "cache", "full", "1"),
    adapterDirectory: join(root, "cache", "small", "1"),
  });
  expect(await locator().base("full@1")).toEqual({ modelDirectory: join(root, "cache", "full", "1") });
  await expect(locator().base("small@1")).rejects.toThrow(
    'model "small@1" is an adapter; train from its base, or from a full model',
  );
});

test("an alias is what the registry says that it means", async () => {
  await storage.put("models/weld/2/config.json", "{}");
  const card = {
    format: "drydock-model/1",
    name: "weld",
    version: 2,
    kind: "full",
    base: "b",
    task: "vqa",
    systemPrompt: "",
    image: {},
    lineage: {
      base: "b",
      baseDigest: null,
      runId: "r",
      step: 1,
      dataset: "d@1",
      datasetDigest: null,
      mode: "full",
      planDigest: "p",
      scores: { before: null, after: null },
    },
  };
  await storage.put("models/weld/2/drydock.json", JSON.stringify(card));
  const asked: string[] = [];
  const locator = new ModelLocator({
    storage,
    modelsDirectory: join(root, "models"),
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere: false,
    versionOf: async (name, alias) => {
      asked.push(`${name}@${alias}`);
      return 2;
    },
  });
  expect((await locator.locate("weld@production")).card?.version).toBe(2);
  expect((await locator.locate("weld@2")).card?.version).toBe(2);
  expect(asked).toEqual(["weld@production"]);
});
