import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FolderStorage, S3Storage, canonicalJson, sha256, type ObjectStorage } from "@drydock/kit";
import { FaultProxy } from "@drydock/kit/fault-proxy";
import { Versitygw } from "@drydock/kit/versitygw";
import type { ReportRequest } from "@drydock/proto";
import { RunSpec, type StoredModel } from "@drydock/spec";
import { readMessagesFile } from "../src/rows/read-messages.ts";
import { TestController } from "./controller.ts";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");
const totalSteps = 40;

let root: string;
let server: Versitygw;
let storage: S3Storage;
let modelKey: string;
let recordsSha256: string;
let whole: string;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-object-storage-"));
  server = await Versitygw.start();
  storage = new S3Storage(server.options({ maximumTries: 3 }));
  const folder = new FolderStorage(join(root, "store"));
  await createTinyModel(join(root, "model"));
  recordsSha256 = await storeData([folder, storage]);
  modelKey = await storeModel(join(root, "model"));
  // What a worker makes that has everything on its own disk.
  const config = { ...configOf("whole"), modelDirectory: join(root, "model"), modelKey: undefined };
  await using controller = await TestController.start(config);
  await endOf(start(controller, "whole", 1, { STORAGE_URL: pathToFileURL(join(root, "store")).href }));
  whole = await weightsOf(folder, "whole");
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await rm(root, { recursive: true, force: true });
});

async function storeData(storages: readonly ObjectStorage[]): Promise<string> {
  const path = await createTinyData(join(root, "data"), 12);
  const records = await readMessagesFile(path, { task: "vqa", scratchDirectory: root });
  const lines: string[] = [];
  for (const [index, record] of records.entries()) {
    const images = record.images.map((image) => ({ ...image, key: `datasets/d/images/${image.sha256}.png` }));
    for (const [place, image] of images.entries())
      for (const each of storages) await each.putFile(image.key, join("/", record.images[place]?.key ?? ""));
    lines.push(`${JSON.stringify({ ...record, images, split: index < 9 ? "train" : "validation" })}\n`);
  }
  for (const each of storages) await each.put("datasets/d/records.jsonl", lines.join(""));
  return sha256(lines.join(""));
}

/** As the controller stores a base model. */
async function storeModel(directory: string): Promise<string> {
  const manifest: StoredModel = { format: "drydock-stored-model/1", files: [] };
  for (const name of (await readdir(directory)).toSorted()) {
    const bytes = await readFile(join(directory, name));
    manifest.files.push({ name, sizeBytes: bytes.length, sha256: sha256(bytes) });
  }
  const text = canonicalJson(manifest);
  const key = `models-base/${sha256(text)}`;
  for (const { name } of manifest.files) await storage.putFile(`${key}/${name}`, join(directory, name));
  await storage.put(`${key}/manifest.json`, text);
  return key;
}

function configOf(runId: string, worldSize = 1): object {
  return {
    kind: "train",
    runId,
    spec: RunSpec.parse({
      name: "colours",
      model: "tiny",
      dataset: "colours@1",
      task: "vqa",
      training: { globalBatchSize: 4, learningRate: 0.01, lora: { rank: 4, alpha: 8, dropout: 0.1 } },
      checkpoint: { everySteps: 5 },
      evaluation: { maxNewTokens: 8, metrics: ["exact-match"] },
    }),
    layout: {
      gpus: worldSize,
      pods: worldSize,
      gpusPerPod: 1,
      dataParallel: worldSize,
      pipelineStages: 1,
      sharding: "none",
      microBatchSize: 2,
      accumulationSteps: 2 / worldSize,
      recomputeActivations: false,
    },
    totalSteps,
    modelDirectory: "",
    modelKey,
    recordsKey: "datasets/d/records.jsonl",
    recordsSha256,
    systemPrompt: "",
    planDigest: "p",
    datasetDigest: null,
    modelName: runId,
    modelVersion: 1,
  };
}

/** A rank on a node of its own: nothing but what object storage gives it. */
function start(
  controller: TestController,
  runId: string,
  epoch: number,
  changes: Readonly<Record<string, string>> = {},
): ChildProcess {
  const environment = {
    ...process.env,
    DRYDOCK_RUN_ID: runId,
    DRYDOCK_EPOCH: String(epoch),
    DRYDOCK_RANK: "0",
    DRYDOCK_WORKER_TOKEN: "secret",
    DRYDOCK_CONTROLLER_URL: controller.url,
    STORAGE_URL: "s3://bucket",
    ...server.environment(),
    DRYDOCK_SCRATCH: join(root, `node-of-${runId}-${epoch}`, "scratch"),
    DRYDOCK_CACHE: join(root, `node-of-${runId}-${epoch}`, "cache"),
    DRYDOCK_STORAGE_BUDGET_SECONDS: "120",
    DRYDOCK_LOG_LEVEL: "silent",
    ...changes,
  };
  return spawn(process.execPath, [main, "rank"], { stdio: ["ignore", "ignore", "inherit"], env: environment });
}

async function endOf(child: ChildProcess): Promise<number | string | null> {
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  return code ?? signal;
}

function lastStep(reports: readonly ReportRequest[]): number {
  return Math.max(0, ...reports.flatMap(({ steps }) => steps.map(({ step }) => step)));
}

async function weightsOf(from: ObjectStorage, runId: string): Promise<string> {
  return sha256(await from.get(`models/${runId}/1/adapter_model.safetensors`));
}

test("a rank on an empty node trains from S3 to the same bytes as one that has everything on its disk", async () => {
  await using controller = await TestController.start(configOf("told"));
  expect(await endOf(start(controller, "told", 1))).toBe(0);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({ exitCode: 0, modelKey: "models/told/1" });
  expect(await weightsOf(storage, "told")).toBe(whole);
  expect(await readdir(join(root, "node-of-told-1", "cache", "leases"))).toEqual([]);
});

test("a second run on the node fetches neither model nor data again", async () => {
  await using proxy = await FaultProxy.start(server.url);
  await using controller = await TestController.start(configOf("warm"));
  const cache = { DRYDOCK_CACHE: join(root, "node-of-told-1", "cache"), S3_ENDPOINT: proxy.url };
  expect(await endOf(start(controller, "warm", 1, cache))).toBe(0);
  const fetched = proxy.requests.filter(
    (request) => request.startsWith("GET") && /\/(images|models-base)\//.test(request),
  );
  expect(fetched.map((request) => request.replace(/\?.*/, ""))).toEqual([`GET /bucket/${modelKey}/manifest.json`]);
  expect(await weightsOf(storage, "warm")).toBe(whole);
});

test.each(["adapter_model.safetensors", "manifest.json"])(
  "a rank that is killed with SIGKILL while it uploads %s of a checkpoint resumes to the same bytes",
  async (name) => {
    const runId = `killed-${name.split(".")[0]?.replaceAll("_", "-")}`;
    await using proxy = await FaultProxy.start(server.url);
    await using controller = await TestController.start(configOf(runId));
    const place = `step-00000010/${name}`;
    proxy.faults.push({ times: 1, method: "PUT", path: place, kind: { waitFor: new Promise(() => undefined) } });
    const first = start(controller, runId, 1, { S3_ENDPOINT: proxy.url });
    const killed = endOf(first);
    await expect
      .poll(() => proxy.requests.some((request) => request.startsWith("PUT") && request.includes(place)), {
        timeout: 60_000,
      })
      .toBe(true);
    first.kill("SIGKILL");
    await killed;
    expect(await storage.head(`runs/${runId}/checkpoints/step-00000010/manifest.json`)).toBeNull();

    controller.reports.length = 0;
    expect(await endOf(start(controller, runId, 2))).toBe(0);
    // Steps of the killed attempt that nobody had acknowledged are told again: they are not its own.
    const own = controller.reports.flatMap(({ steps }) => steps).filter(({ attempt }) => attempt === 2);
    expect(own[0]?.step).toBe(6);
    expect(await weightsOf(storage, runId)).toBe(whole);
  },
);

test("storage that is killed and comes back in the middle of a run is ridden out, and said", async () => {
  await using controller = await TestController.start(configOf("storage-killed"));
  const ended = endOf(start(controller, "storage-killed", 1));
  await controller.until((reports) => lastStep(reports) >= 4);
  await server.kill();
  await controller.until((reports) => reports.some(({ logLines }) => logLines.some(({ level }) => level === "warn")));
  await server.up();
  expect(await ended).toBe(0);
  const told = controller.reports.flatMap(({ logLines }) => logLines.map(({ message }) => message));
  expect(told.join("\n")).toMatch(/\w+ "runs\/storage-killed\/.* failed \(try 1\): storage does not answer \(E\w+\)/);
  expect(await weightsOf(storage, "storage-killed")).toBe(whole);
});

/** An attempt of two ranks on one empty node; answers how they ended. */
async function attemptOfTwo(
  controller: TestController,
  runId: string,
  epoch: number,
  whileRunning: (ranks: readonly ChildProcess[]) => Promise<void> = async () => undefined,
): Promise<(number | string | null)[]> {
  controller.worldSize = 2;
  const cache = { DRYDOCK_CACHE: join(root, `node-of-${runId}-${epoch}`, "cache"), DRYDOCK_WORLD_SIZE: "2" };
  const ranks = ["0", "1"].map((rank) => start(controller, runId, epoch, { ...cache, DRYDOCK_RANK: rank }));
  const ended = Promise.all(ranks.map(endOf));
  await whileRunning(ranks);
  return await ended;
}

test("two ranks of one node share its cache; one killed, the next attempt ends with the bytes of an undisturbed run", async () => {
  await using undisturbed = await TestController.start(configOf("pair", 2));
  expect(await attemptOfTwo(undisturbed, "pair", 1)).toEqual([0, 0]);
  await using controller = await TestController.start(configOf("pair-hurt", 2));
  const ends = await attemptOfTwo(controller, "pair-hurt", 1, async ([, second]) => {
    await controller.until((reports) => lastStep(reports) >= 12);
    second?.kill("SIGKILL");
  });
  expect(ends[0]).not.toBe(0);
  await using again = await TestController.start(configOf("pair-hurt", 2));
  expect(await attemptOfTwo(again, "pair-hurt", 2)).toEqual([0, 0]);
  expect(await weightsOf(storage, "pair-hurt")).toBe(await weightsOf(storage, "pair"));
});

test("a model that storage lacks ends the rank with 64 and names the file", async () => {
  const config = { ...configOf("lost"), modelKey: `models-base/${"0".repeat(64)}` };
  await using controller = await TestController.start(config);
  expect(await endOf(start(controller, "lost", 1))).toBe(64);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "bad-config",
    message: `there is no object "models-base/${"0".repeat(64)}/manifest.json" in storage`,
  });
});

test("wrong storage keys end the rank with 64 and name the setting", async () => {
  await using controller = await TestController.start(configOf("keys"));
  expect(await endOf(start(controller, "keys", 1, { S3_SECRET_ACCESS_KEY: "wrong" }))).toBe(64);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "bad-config",
    message: expect.stringMatching(/S3_SECRET_ACCESS_KEY does not belong to the access key "drydock-test"$/),
  });
});
