import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FolderStorage, sha256 } from "@drydock/kit";
import { Directive, type ReportRequest } from "@drydock/proto";
import { ModelCard, RunSpec, SampleResult } from "@drydock/spec";
import { readMessagesFile } from "../src/rows/read-messages.ts";
import { TestController } from "./controller.ts";
import { createTinyData, createTinyModel } from "./tiny-model.ts";

const main = join(import.meta.dirname, "..", "src", "main.ts");
const totalSteps = 40;

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-rank-process-"));
  await createTinyModel(join(root, "model"));
  const records = await readMessagesFile(await createTinyData(join(root, "data"), 12), {
    task: "vqa",
    scratchDirectory: root,
  });
  const storage = new FolderStorage(join(root, "store"));
  const stored = [];
  for (const [index, record] of records.entries()) {
    const images = record.images.map((image) => ({ ...image, key: `datasets/d/images/${image.sha256}.png` }));
    for (const [place, image] of images.entries())
      await storage.putFile(image.key, join("/", record.images[place]?.key ?? ""));
    stored.push({ ...record, images, split: index < 9 ? "train" : "validation" });
  }
  await storage.put("datasets/d/records.jsonl", stored.map((record) => `${JSON.stringify(record)}\n`).join(""));
});
afterAll(async () => await rm(root, { recursive: true, force: true }));

function configOf(runId: string): object {
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
      gpus: 1,
      pods: 1,
      gpusPerPod: 1,
      dataParallel: 1,
      pipelineStages: 1,
      sharding: "none",
      microBatchSize: 2,
      accumulationSteps: 2,
      recomputeActivations: false,
    },
    totalSteps,
    modelDirectory: join(root, "model"),
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "",
    planDigest: "p",
    datasetDigest: null,
    modelName: runId,
    modelVersion: 1,
  };
}

function start(controller: TestController, runId: string, epoch: number, token = "secret"): ChildProcess {
  const environment = {
    ...process.env,
    DRYDOCK_RUN_ID: runId,
    DRYDOCK_EPOCH: String(epoch),
    DRYDOCK_RANK: "0",
    DRYDOCK_WORKER_TOKEN: token,
    DRYDOCK_CONTROLLER_URL: controller.url,
    STORAGE_URL: pathToFileURL(join(root, "store")).href,
    DRYDOCK_SCRATCH: join(root, "scratch", runId),
    DRYDOCK_LOG_LEVEL: "silent",
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

async function weightsOf(runId: string): Promise<string> {
  return sha256(await readFile(join(root, "store", "models", runId, "1", "adapter_model.safetensors")));
}

let whole: string;
beforeAll(async () => {
  await using controller = await TestController.start(configOf("whole"));
  await endOf(start(controller, "whole", 1));
  whole = await weightsOf("whole");
});

test("a rank trains from storage to a published model and tells the controller every step", async () => {
  await using controller = await TestController.start(configOf("told"));
  expect(await endOf(start(controller, "told", 1))).toBe(0);
  const { reports } = controller;
  expect(reports.flatMap(({ steps }) => steps.map(({ step }) => step))).toEqual(
    Array.from({ length: totalSteps }, (_, index) => index + 1),
  );
  const [firstStep] = reports.flatMap(({ steps }) => steps);
  expect(Number(firstStep?.memoryBytes)).toBeGreaterThan(10_000_000);
  expect(reports.at(-1)?.outcome).toMatchObject({ exitCode: 0, reason: "completed", modelKey: "models/told/1" });
  const evaluations = reports.flatMap((report) => report.evaluations);
  expect(evaluations.map(({ phase, samples }) => [phase, samples])).toEqual([
    ["before", 3],
    ["after", 3],
  ]);
  const results = await readFile(join(root, "store", evaluations[1]?.resultsKey ?? ""), "utf8");
  expect(
    results
      .trimEnd()
      .split("\n")
      .map((line) => SampleResult.parse(JSON.parse(line)).prompt),
  ).toEqual(Array.from({ length: 3 }, () => "Which colour?"));
  const card = ModelCard.parse(
    JSON.parse(await readFile(join(root, "store", "models", "told", "1", "drydock.json"), "utf8")),
  );
  expect(card).toMatchObject({ kind: "adapter", base: "tiny", lineage: { runId: "told", step: totalSteps } });
  const adapter: unknown = JSON.parse(
    await readFile(join(root, "store", "models", "told", "1", "adapter_config.json"), "utf8"),
  );
  expect(adapter).toMatchObject({ peft_type: "LORA", base_model_name_or_path: "tiny", r: 4 });
  expect(await weightsOf("told")).toBe(whole);
});

test("a controller that is away for a while stops nothing and misses nothing", async () => {
  await using controller = await TestController.start(configOf("away"));
  const rank = start(controller, "away", 1);
  const ended = endOf(rank);
  await controller.until((reports) => lastStep(reports) >= 1);
  await controller.goAway();
  await new Promise((resolve) => setImmediate(resolve));
  await controller.comeBack();
  expect(await ended).toBe(0);
  const told = new Set(controller.reports.flatMap(({ steps }) => steps.map(({ step }) => step)));
  expect(told.size).toBe(totalSteps);
  expect(await weightsOf("away")).toBe(whole);
});

test("a run that is paused, then killed with SIGKILL, and resumed publishes byte-identical weights", async () => {
  await using controller = await TestController.start(configOf("hurt"));
  controller.directive = Directive.CHECKPOINT_AND_STOP;
  expect(await endOf(start(controller, "hurt", 1))).toBe(143);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({ exitCode: 143, reason: "paused-after-checkpoint" });

  controller.directive = Directive.CONTINUE;
  const before = lastStep(controller.reports);
  const second = start(controller, "hurt", 2);
  const killed = endOf(second);
  await controller.until(
    (reports) => lastStep(reports) > before || (reports.at(-1)?.outcome !== undefined && reports.at(-1)?.epoch === 2),
  );
  second.kill("SIGKILL");
  await killed;

  expect(await endOf(start(controller, "hurt", 3))).toBe(0);
  expect(await weightsOf("hurt")).toBe(whole);
});

test("a rank whose token was revoked ends and writes nothing", async () => {
  await using controller = await TestController.start(configOf("stale"));
  expect(await endOf(start(controller, "stale", 1, "old"))).toBe(130);
  expect(await new FolderStorage(join(root, "store")).head("runs/stale/attempts/1/claim.json")).toBeNull();
});

test("a damaged base model ends with 64 and names the file", async () => {
  await createTinyModel(join(root, "broken"));
  await writeFile(join(root, "broken", "model.safetensors"), "not a safetensors file");
  await using controller = await TestController.start({ ...configOf("broken"), modelDirectory: join(root, "broken") });
  expect(await endOf(start(controller, "broken", 1))).toBe(64);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "bad-config",
    message: expect.stringContaining("model.safetensors"),
  });
});
