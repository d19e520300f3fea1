import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage } from "@drydock/kit";
import { RunSpec, WorkerConfig } from "@drydock/spec";
import { StaleEpochError, claimEpoch } from "../checkpoint/fence.ts";
import type { Trainer } from "../training/trainer.ts";
import { chooseImageSettings, choosePrompt, readModelCard } from "./model-card.ts";
import { modelCardOf, modelKey, publishModel, type Publication } from "./publish-model.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-publish-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

const layout = {
  gpus: 1,
  pods: 1,
  gpusPerPod: 1,
  dataParallel: 1,
  pipelineStages: 1,
  sharding: "none",
  microBatchSize: 1,
  accumulationSteps: 1,
  recomputeActivations: false,
} as const;

const publication: Publication = {
  config: WorkerConfig.parse({
    kind: "train",
    runId: "r1",
    spec: RunSpec.parse({
      name: "weld",
      model: "qwen3-vl-2b",
      dataset: "weld@3",
      task: "vqa",
      image: { maxPixels: 50_176 },
    }),
    layout,
    totalSteps: 10,
    modelDirectory: "/base",
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "You inspect welds.",
    planDigest: "p",
    datasetDigest: "d",
    modelName: "weld",
    modelVersion: 2,
  }),
  baseDigest: "b",
  step: 10,
  warmStart: { runId: "r0", step: 4, manifestSha256: "m" },
  scores: { before: { "exact-match": 10 }, after: { "exact-match": 60 } },
};

const trainer = {
  publish: async (directory: string) => {
    await writeFile(join(directory, "adapter_model.safetensors"), "weights");
    return ["adapter_model.safetensors"];
  },
} as Trainer;

async function publish(epoch: number): Promise<string> {
  const folder = { storage, prefix: "runs/r1/", runId: "r1", epoch };
  const key = modelKey("weld", 2);
  await publishModel(folder, key, trainer, modelCardOf(publication), {
    directory: join(root, "scratch"),
    diskRetry: { budgetMs: 0 },
  });
  return key;
}

test("a model is published with a card that names its base, prompt, picture settings and lineage", async () => {
  const key = await publish(1);
  expect(key).toBe("models/weld/2");
  expect(Buffer.from(await storage.get(`${key}/adapter_model.safetensors`)).toString()).toBe("weights");
  await storage.getFile(`${key}/drydock.json`, join(root, "copy", "drydock.json"));
  expect(await readModelCard(join(root, "copy"))).toEqual({
    format: "drydock-model/1",
    name: "weld",
    version: 2,
    kind: "adapter",
    base: "qwen3-vl-2b",
    task: "vqa",
    systemPrompt: "You inspect welds.",
    image: { maxPixels: 50_176 },
    lineage: {
      base: "qwen3-vl-2b",
      baseDigest: "b",
      runId: "r1",
      step: 10,
      dataset: "weld@3",
      datasetDigest: "d",
      mode: "lora",
      planDigest: "p",
      scores: { before: { "exact-match": 10 }, after: { "exact-match": 60 } },
      warmStart: { runId: "r0", step: 4, manifestSha256: "m" },
    },
  });
});

test("a stale attempt publishes nothing", async () => {
  await claimEpoch({ storage, prefix: "runs/r1/", runId: "r1", epoch: 2 }, 1);
  await expect(publish(1)).rejects.toBeInstanceOf(StaleEpochError);
  expect(await storage.head("models/weld/2/drydock.json")).toBeNull();
});

test("a folder without a card is a model that Drydock did not make; a damaged card is refused", async () => {
  await mkdir(join(root, "plain"));
  expect(await readModelCard(join(root, "plain"))).toBeNull();
  await writeFile(join(root, "plain", "drydock.json"), (await readFile(import.meta.filename)).subarray(0, 10));
  await expect(readModelCard(join(root, "plain"))).rejects.toThrow("is not a Drydock model card");
});

test("the stored system prompt is used unless another is given, which is warned about", () => {
  const card = modelCardOf(publication);
  expect(choosePrompt(card, undefined)).toEqual({ systemPrompt: "You inspect welds.", warnings: [] });
  expect(choosePrompt(card, "You inspect welds.").warnings).toEqual([]);
  expect(choosePrompt(card, "Be brief.")).toEqual({
    systemPrompt: "Be brief.",
    warnings: [
      expect.stringContaining('was trained with the system prompt "You inspect welds." and is used with "Be brief."'),
    ],
  });
  expect(choosePrompt(null, "Be brief.").warnings).toEqual([]);
});

test("the stored picture settings are used unless others are given, which is warned about", () => {
  const card = modelCardOf(publication);
  expect(chooseImageSettings(card, {})).toEqual({ image: { maxPixels: 50_176 }, warnings: [] });
  expect(chooseImageSettings(card, { maxPixels: 1000 })).toEqual({
    image: { maxPixels: 1000 },
    warnings: ["maxPixels 1000 differs from the 50176 that weld@2 was trained with: answers may be worse"],
  });
});
