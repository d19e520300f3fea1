import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FolderStorage, S3Storage, UnavailableError } from "@drydock/kit";
import { CheckpointManifest, EvaluationDetails, ModelCard, RunSpec, type DataRecord } from "@drydock/spec";
import { FaultProxy } from "@drydock/kit/fault-proxy";
import { Versitygw } from "@drydock/kit/versitygw";
import { toyEngine, ToyTrainer } from "../../test/toy-engine.ts";
import { claimEpoch } from "../checkpoint/fence.ts";
import { StaleAttemptError } from "../control/stale-attempt-error.ts";
import type { Directive, Report, WorkerClient } from "../control/worker-client.ts";
import { rankSettingsOf } from "./rank-environment.ts";
import { runRank } from "./rank.ts";

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-rank-"));
  storage = new FolderStorage(join(root, "store"));
  process.env["DRYDOCK_LOG_LEVEL"] = "silent";
  const row = {
    task: "vqa",
    source: { file: "a", row: 1 },
    images: [],
    messages: [
      { role: "user", content: "?" },
      { role: "assistant", content: "answer to 3" },
    ],
  } as const;
  const records = [0, 1, 2, 3].map(
    (index) => ({ ...row, rowId: String(index), split: index < 3 ? "train" : "validation" }) as unknown as DataRecord,
  );
  await storage.put("datasets/d/records.jsonl", records.map((record) => `${JSON.stringify(record)}\n`).join(""));
});
afterEach(async () => {
  for (const name of ["DRYDOCK_LOG_LEVEL", "S3_ENDPOINT", "S3_REGION", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"])
    delete process.env[name];
  await rm(root, { recursive: true, force: true });
});

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
};

function trainConfig(changes: object = {}): object {
  return {
    kind: "train",
    runId: "r1",
    spec: RunSpec.parse({
      name: "weld",
      model: "base",
      dataset: "weld@1",
      task: "vqa",
      image: { maxPixels: 4096 },
      checkpoint: { everySteps: 5 },
    }),
    layout,
    totalSteps: 12,
    modelDirectory: root,
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "Be brief.",
    planDigest: "p",
    datasetDigest: null,
    modelName: "weld",
    modelVersion: 1,
    ...changes,
  };
}

/** A controller that joins the rank to a config and answers each report by `directiveFor`. */
class FakeController implements WorkerClient {
  readonly reports: Report[] = [];
  joins = 0;
  readonly #config: object;
  readonly #directiveFor: (report: Report) => Directive;
  unavailableJoins = 0;

  constructor(config: object, directiveFor: (report: Report) => Directive = () => "continue") {
    this.#config = config;
    this.#directiveFor = directiveFor;
  }

  async join() {
    this.joins += 1;
    if (this.unavailableJoins-- > 0) throw new UnavailableError("controller_unavailable", "no answer");
    return {
      directive: "continue",
      configJson: JSON.stringify(this.#config),
      resumeFrom: "",
      peers: [],
      missingRanks: [],
    } as const;
  }

  async report(report: Report): Promise<Directive> {
    this.reports.push(report);
    return this.#directiveFor(report);
  }
}

function settings(epoch = 1) {
  return rankSettingsOf({
    DRYDOCK_RUN_ID: "r1",
    DRYDOCK_EPOCH: String(epoch),
    DRYDOCK_RANK: "0",
    DRYDOCK_WORKER_TOKEN: "t",
    DRYDOCK_CONTROLLER_URL: "http://127.0.0.1:1",
    STORAGE_URL: pathToFileURL(join(root, "store")).href,
    DRYDOCK_SCRATCH: join(root, "scratch"),
    DRYDOCK_STORAGE_BUDGET_SECONDS: "0",
  });
}

test("a rank trains, saves, evaluates, publishes, and tells all of it", async () => {
  const controller = new FakeController(trainConfig());
  expect(await runRank(settings(), controller, toyEngine())).toBe(0);
  const told = controller.reports;
  expect(told.flatMap(({ steps }) => steps.map(({ step }) => step))).toEqual(
    Array.from({ length: 12 }, (_, index) => index + 1),
  );
  expect(told.flatMap(({ checkpoints }) => checkpoints.map(({ step }) => step))).toEqual([5, 10, 12]);
  expect(told.flatMap(({ evaluations }) => evaluations.map(({ phase, samples }) => [phase, samples]))).toEqual([
    ["before", 1],
    ["after", 1],
  ]);
  expect(told.at(-1)?.outcome).toEqual({
    exitCode: 0,
    reason: "completed",
    message: "finished after 12 steps",
    modelKey: "models/weld/1",
  });
  const manifest: unknown = JSON.parse(
    Buffer.from(await storage.get("runs/r1/checkpoints/step-00000012/manifest.json")).toString(),
  );
  expect(CheckpointManifest.parse(manifest)).toMatchObject({ runId: "r1", step: 12, epoch: 1 });
  const card: unknown = JSON.parse(Buffer.from(await storage.get("models/weld/1/drydock.json")).toString());
  expect(ModelCard.parse(card)).toMatchObject({
    kind: "adapter",
    base: "base",
    systemPrompt: "Be brief.",
    lineage: { step: 12, scores: { after: { "exact-match": 100 } } },
  });
});

test("a rank that is told to stop ends with 143 after a checkpoint, and the next attempt goes on there", async () => {
  const slow = new ToyTrainer();
  const controller = new FakeController(trainConfig(), () => "checkpoint-and-stop");
  slow.pauseMs = 20;
  expect(await runRank(settings(1), controller, toyEngine(slow))).toBe(143);
  const outcome = controller.reports.at(-1)?.outcome;
  expect(outcome).toMatchObject({ exitCode: 143, reason: "paused-after-checkpoint", modelKey: "" });
  const stoppedAt = controller.reports.flatMap(({ checkpoints }) => checkpoints).at(-1)?.step ?? 0;

  const resumed = new FakeController(trainConfig());
  const trainer = new ToyTrainer();
  expect(await runRank(settings(2), resumed, toyEngine(trainer))).toBe(0);
  const own = resumed.reports.flatMap(({ steps }) => steps).filter(({ attempt }) => attempt === 2);
  expect(own[0]?.step ?? 13).toBe(stoppedAt + 1);
});

test("a rank waits for a controller that does not answer its join yet", async () => {
  const controller = new FakeController(trainConfig({ totalSteps: 1 }));
  controller.unavailableJoins = 2;
  expect(await runRank(settings(), controller, toyEngine())).toBe(0);
  expect(controller.joins).toBe(3);
});

test.each([
  [
    "a data set without rows to train on",
    { recordsKey: "datasets/empty.jsonl" },
    65,
    "bad-data",
    "the data set has no rows in its train split",
  ],
  [
    "records that are gone",
    { recordsKey: "datasets/gone.jsonl" },
    65,
    "bad-data",
    "datasets/gone.jsonl are not in storage",
  ],
])("%s ends with its exit code and a sentence", async (_case, changes, exitCode, reason, message) => {
  await storage.put("datasets/empty.jsonl", "");
  const controller = new FakeController(trainConfig(changes));
  expect(await runRank(settings(), controller, toyEngine())).toBe(exitCode);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    exitCode,
    reason,
    message: expect.stringContaining(message),
  });
});

test("a rank whose loss is not finite says which learning rate to try", async () => {
  const trainer = new ToyTrainer();
  trainer.losses = () => Number.NaN;
  const controller = new FakeController(trainConfig());
  expect(await runRank(settings(), controller, toyEngine(trainer))).toBe(64);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "diverged",
    message: expect.stringContaining("training.learningRate 0.00001 or less"),
  });
});

test("a rank whose storage is full past the budget ends with 75 and keeps the last good checkpoint", async () => {
  const trainer = new ToyTrainer();
  const save = trainer.save.bind(trainer);
  let saves = 0;
  trainer.save = async (directory) => {
    if (++saves === 2) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    return await save(directory);
  };
  const controller = new FakeController(trainConfig());
  expect(await runRank(settings(), controller, toyEngine(trainer))).toBe(75);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "storage-unavailable",
    message: expect.stringMatching(/^the disk is full: .* was not written; free space/),
  });
  expect(await storage.head("runs/r1/checkpoints/step-00000005/manifest.json")).not.toBeNull();
  expect(await storage.head("runs/r1/checkpoints/step-00000010/manifest.json")).toBeNull();
});

test("a rank rides out storage that answers 503 for a while", async () => {
  await using server = await Versitygw.start();
  await using proxy = await FaultProxy.start(server.url);
  const team = new S3Storage(server.options({ prefix: "team" }));
  await team.put("datasets/d/records.jsonl", await storage.get("datasets/d/records.jsonl"));
  Object.assign(process.env, server.environment(proxy.url));
  const controller = new FakeController(trainConfig({ totalSteps: 6 }), ({ steps }) => {
    if (steps.some(({ step }) => step === 1)) proxy.faults.push({ times: 4, kind: { status: 503 } });
    return "continue";
  });
  const s3 = { ...settings(), storageUrl: "s3://bucket/team", storageBudgetMs: 30_000 };
  expect(await runRank(s3, controller, toyEngine())).toBe(0);
  expect(await team.head("runs/r1/checkpoints/step-00000006/manifest.json")).not.toBeNull();
  expect(await team.head("models/weld/1/drydock.json")).not.toBeNull();
});

test("a rank whose storage answers 503 past the budget ends with 75 and says which object", async () => {
  await using server = await Versitygw.start();
  await using proxy = await FaultProxy.start(server.url);
  const team = new S3Storage(server.options({ prefix: "team" }));
  await team.put("datasets/d/records.jsonl", await storage.get("datasets/d/records.jsonl"));
  Object.assign(process.env, server.environment(proxy.url));
  const controller = new FakeController(trainConfig(), ({ steps }) => {
    if (steps.some(({ step }) => step === 1))
      proxy.faults.push({ times: Number.POSITIVE_INFINITY, method: "PUT", kind: { status: 503 } });
    return "continue";
  });
  const trainer = new ToyTrainer();
  trainer.pauseMs = 20;
  const s3 = { ...settings(), storageUrl: "s3://bucket/team", storageBudgetMs: 200 };
  expect(await runRank(s3, controller, toyEngine(trainer))).toBe(75);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    exitCode: 75,
    reason: "storage-unavailable",
    message: expect.stringMatching(/^storage answers 503 for object "runs\/r1\//),
  });
  expect(controller.reports.flatMap(({ logLines }) => logLines.map(({ level }) => level))).toContain("warn");
});

test("a rank whose storage URL makes no sense tells the controller so", async () => {
  const controller = new FakeController(trainConfig());
  expect(await runRank({ ...settings(), storageUrl: "ftp://x" }, controller, toyEngine())).toBe(64);
  expect(controller.reports.at(-1)?.outcome).toMatchObject({
    reason: "bad-config",
    message: 'storage URL "ftp://x" is not understood: use file:///folder or s3://bucket/prefix',
  });
});

test("a rank of a stale attempt writes nothing", async () => {
  await claimEpoch({ storage, prefix: "runs/r1/", runId: "r1", epoch: 2 }, 1);
  const controller = new FakeController(trainConfig());
  expect(await runRank(settings(1), controller, toyEngine())).toBe(130);
  expect(await storage.head("runs/r1/checkpoints/step-00000005/manifest.json")).toBeNull();
});

test("a rank whose token is refused ends without a word", async () => {
  const controller = new FakeController(trainConfig());
  controller.join = async () => await Promise.reject(new StaleAttemptError(null));
  await expect(runRank(settings(1), controller, toyEngine())).rejects.toBeInstanceOf(StaleAttemptError);
});

test("an evaluation of its own is scored and stored", async () => {
  const spec = { model: "base", dataset: "weld@1", task: "vqa", maxNewTokens: 8, image: {} };
  const controller = new FakeController({
    kind: "evaluate",
    evaluationId: "eval_1",
    spec,
    modelDirectory: root,
    adapterDirectory: null,
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "",
  });
  expect(await runRank(settings(), controller, toyEngine())).toBe(0);
  expect(controller.reports.flatMap(({ evaluations }) => evaluations)).toMatchObject([
    { phase: "standalone", samples: 1, scores: { "exact-match": 100 }, resultsKey: "evaluations/eval_1/results.jsonl" },
  ]);
  expect(await storage.head("evaluations/eval_1/results.jsonl")).not.toBeNull();
  const details: unknown = JSON.parse(
    Buffer.from(await storage.get("evaluations/eval_1/results.details.json")).toString(),
  );
  expect(EvaluationDetails.parse(details)).toMatchObject({ slices: [], seed: 42 });
});

test("a shard answers its part of the rows and stores them beside those of the others", async () => {
  const content = Buffer.from(await storage.get("datasets/d/records.jsonl")).toString();
  const row = JSON.parse(content.split("\n")[3] ?? "") as DataRecord;
  const records = [0, 1, 2, 3, 4].map((index) => ({ ...row, rowId: `r${index}`, tags: ["night"] }));
  await storage.put("datasets/d/more.jsonl", records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  const controller = new FakeController({
    kind: "evaluate",
    evaluationId: "eval_3",
    shard: { index: 1, count: 2 },
    spec: { model: "base", dataset: "weld@1", task: "vqa", maxNewTokens: 8, image: {}, shards: 2 },
    modelDirectory: root,
    adapterDirectory: null,
    recordsKey: "datasets/d/more.jsonl",
    systemPrompt: "",
  });
  expect(await runRank(settings(), controller, toyEngine())).toBe(0);
  const resultsKey = "evaluations/eval_3/shards/1-of-2.jsonl";
  expect(controller.reports.flatMap(({ evaluations }) => evaluations)).toMatchObject([{ samples: 2, resultsKey }]);
  const rows = Buffer.from(await storage.get(resultsKey))
    .toString()
    .trimEnd()
    .split("\n");
  expect(rows.map((text) => JSON.parse(text) as object)).toMatchObject([
    { rowId: "r1", tags: ["night"] },
    { rowId: "r3", tags: ["night"] },
  ]);
});

test("an evaluation uses the picture settings that the model was trained with, and warns about another prompt", async () => {
  const trained = new FakeController(trainConfig({ totalSteps: 1 }));
  await runRank(settings(), trained, toyEngine());
  await storage.getFile("models/weld/1/drydock.json", join(root, "adapter", "drydock.json"));
  const spec = { model: "weld@1", dataset: "weld@1", task: "vqa", maxNewTokens: 8, image: {} };
  const config = {
    kind: "evaluate",
    evaluationId: "eval_2",
    spec,
    modelDirectory: root,
    adapterDirectory: join(root, "adapter"),
    recordsKey: "datasets/d/records.jsonl",
    systemPrompt: "Be wordy.",
  };
  const controller = new FakeController(config);
  let image: object = {};
  const engine = toyEngine();
  const doors = {
    ...engine,
    openAnswerer: async (...given: Parameters<typeof engine.openAnswerer>) => {
      image = given[0].spec.image;
      return await engine.openAnswerer(...given);
    },
  };
  expect(await runRank(settings(), controller, doors)).toBe(0);
  expect(image).toEqual({ maxPixels: 4096 });
  expect(controller.reports.flatMap(({ logLines }) => logLines.map(({ message }) => message))).toEqual([
    expect.stringContaining('is used with "Be wordy."'),
  ]);
});

test("missing environment variables are named", () => {
  expect(() => rankSettingsOf({ DRYDOCK_RUN_ID: "r1" })).toThrow(
    /missing or wrong: DRYDOCK_EPOCH .*DRYDOCK_WORKER_TOKEN/,
  );
});

test("a rank beyond the world size is refused", () => {
  const environment = {
    DRYDOCK_RUN_ID: "r1",
    DRYDOCK_EPOCH: "1",
    DRYDOCK_RANK: "2",
    DRYDOCK_WORLD_SIZE: "2",
    DRYDOCK_WORKER_TOKEN: "t",
    DRYDOCK_CONTROLLER_URL: "http://127.0.0.1:1",
    STORAGE_URL: "file:///",
    DRYDOCK_SCRATCH: "/",
  };
  expect(() => rankSettingsOf(environment)).toThrow(
    "DRYDOCK_RANK is 2, but there are 2 ranks, counted from 0: one of DRYDOCK_RANK and DRYDOCK_WORLD_SIZE is wrong",
  );
});

test("an address that this machine does not have is refused", async () => {
  const elsewhere = { ...settings(), worldSize: 2, listenHost: "192.0.2.1" };
  await expect(runRank(elsewhere, new FakeController(trainConfig()), toyEngine())).rejects.toThrow(
    /^DRYDOCK_LISTEN_HOST is 192\.0\.2\.1, where this rank cannot listen for the others \(listen EADDRNOTAVAIL/,
  );
});
