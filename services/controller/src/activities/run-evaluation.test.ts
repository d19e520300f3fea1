import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scoreWithDetails } from "@drydock/data";
import { createLogger, FolderStorage } from "@drydock/kit";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ReportRequestSchema } from "@drydock/proto";
import {
  EvaluationSpec,
  detailsKeyOf,
  resultsKeyOf,
  type EvaluationInput,
  type EvaluationUpdate,
  type EvaluationWorkerConfig,
  type SampleResult,
} from "@drydock/spec";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FakeBackend } from "../../test/fake-backend.ts";
import { AttemptFiles } from "../attempts/attempt-files.ts";
import { AttemptHost } from "../attempts/attempt-host.ts";
import { AttemptRegistry, type AttemptSession } from "../attempts/attempt-registry.ts";
import { Capacity } from "../attempts/capacity.ts";
import { InternalApi } from "../internal-api.ts";
import { ModelLocator } from "../models/model-locator.ts";
import { evaluateShard, evaluateWhole, joinOrFail, noteEnd } from "./run-evaluation.ts";

type EvaluationInit = NonNullable<MessageInitShape<typeof ReportRequestSchema>["evaluations"]>[number];

/** Keeps what it is told of one evaluation. */
class FakeApi extends InternalApi {
  readonly updates: EvaluationUpdate[] = [];

  constructor() {
    super("http://127.0.0.1:1", "key");
  }

  override hasty(): InternalApi {
    return this;
  }

  override async putEvaluation(_id: string, update: EvaluationUpdate): Promise<void> {
    this.updates.push(update);
  }
}

/** Lets a test speak as the worker of an attempt. */
class OpenRegistry extends AttemptRegistry {
  readonly sessions = new Map<string, AttemptSession>();

  override add(session: AttemptSession): void {
    this.sessions.set(session.id, session);
    super.add(session);
  }
}

let root: string;
let storage: FolderStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-evaluation-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

function setUp() {
  const api = new FakeApi();
  const backend = new FakeBackend();
  const registry = new OpenRegistry();
  const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });
  const host = new AttemptHost({
    backend,
    registry,
    files: new AttemptFiles(join(root, "attempts")),
    storageUrl: storage.url,
    controllerUrl: "http://127.0.0.1:1",
    scratchDirectory: join(root, "scratch"),
    memoryLimitBytes: null,
    patience: { reportMs: 60_000, stepMs: 60_000, stopMs: 60_000 },
    logger,
  });
  const models = new ModelLocator({
    storage,
    modelsDirectory: join(root, "models"),
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere: false,
  });
  models.locate = async () => ({ modelDirectory: join(root, "base"), adapterDirectory: null, card: null });
  const stop = new AbortController();
  const signals = { stop: stop.signal, abandon: new AbortController().signal };
  const dependencies = { api, host, capacity: new Capacity(2), models, storage, threads: 1, logger };
  let sequence = 0n;
  const say = async (id: string, content: MessageInitShape<typeof ReportRequestSchema>): Promise<void> => {
    const token = registry.sessions.get(id)?.token ?? "";
    sequence += 1n;
    await registry.report(
      create(ReportRequestSchema, { runId: id, epoch: 1, token, sequence, ...content }),
      Date.now(),
    );
  };
  /** The worker of `id` reports that it has answered its rows. */
  const report = async (id: string, evaluation: EvaluationInit): Promise<void> =>
    await say(id, { evaluations: [evaluation] });
  /** It says that it is done, and is. */
  const finish = async (id: string): Promise<void> => {
    await say(id, { outcome: { exitCode: 0, reason: "completed", message: "done", modelKey: "" } });
    backend.gangs.find(({ name }) => name === `${id}-a1`)?.end({ exitCode: 0 });
  };
  return { api, backend, dependencies, signals, stop, report, finish };
}

const input: EvaluationInput = {
  evaluationId: "eval_1",
  spec: EvaluationSpec.parse({ model: "m", dataset: "d@1", task: "vqa", metrics: ["exact-match"] }),
  datasetId: "ds_1",
  datasetVersion: 1,
};

const samples = [0, 1, 2].map((index): SampleResult => ({
  rowId: `r${index}`,
  tags: ["night"],
  imageKey: null,
  fileName: null,
  width: null,
  height: null,
  prompt: "?",
  expected: "two",
  answer: index === 0 ? "three" : "two",
  expectedGroundings: [],
  answeredGroundings: [],
  isParsable: true,
  scores: {},
}));

const jsonl = (rows: readonly SampleResult[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join("");

test("scores are told with the intervals and slices that the worker stored", async () => {
  const { api, backend, dependencies, signals, report, finish } = setUp();
  const { scores, details } = scoreWithDetails("vqa", ["exact-match"], samples);
  const resultsKey = resultsKeyOf("eval_1");
  await storage.put(detailsKeyOf(resultsKey), JSON.stringify(details));
  const evaluated = evaluateWhole(dependencies, input, signals);
  await vi.waitUntil(() => backend.started.length === 1);
  await report("eval_1", { phase: "standalone", scores, samples: 3, seconds: 2, resultsKey });
  await finish("eval_1");
  await evaluated;
  expect(api.updates.map(({ state }) => state)).toEqual(["running", "succeeded"]);
  expect(api.updates[1]).toMatchObject({ scores, samples: 3, seconds: 2, resultsKey, details });
  expect(details.slices[0]).toMatchObject({ name: "tag:night", count: 3 });
});

test("scores of an older worker, or with details that are damaged, stand without details", async () => {
  const { api, backend, dependencies, signals, report, finish } = setUp();
  const resultsKey = resultsKeyOf("eval_1");
  await storage.put(detailsKeyOf(resultsKey), "{ not json");
  const evaluated = evaluateWhole(dependencies, input, signals);
  await vi.waitUntil(() => backend.started.length === 1);
  await report("eval_1", { phase: "standalone", scores: { "exact-match": 50 }, samples: 2, resultsKey });
  await report("eval_1", { phase: "standalone", scores: { "exact-match": 50 }, samples: 2, resultsKey: "other.jsonl" });
  await finish("eval_1");
  await evaluated;
  expect(api.updates.slice(1)).toMatchObject([
    { state: "succeeded", details: null },
    { state: "succeeded", details: null },
  ]);
});

test("a worker that fails is told as the evaluation's failure", async () => {
  const { api, backend, dependencies, signals } = setUp();
  const evaluated = evaluateWhole(dependencies, input, signals);
  await vi.waitUntil(() => backend.started.length === 1);
  backend.gangs[0]?.end({ exitCode: 71 });
  await evaluated;
  expect(api.updates.at(-1)).toMatchObject({ state: "failed", message: expect.stringMatching(/memory/) as string });
});

test("each shard has a worker of its own, and the joined rows are scored as one", async () => {
  const { api, backend, dependencies, signals, report, finish } = setUp();
  const sharded = { ...input, spec: { ...input.spec, shards: 2 } };
  const outcomes = [0, 1].map(async (index) => {
    const shard = { index, count: 2 };
    await storage.put(resultsKeyOf("eval_1", shard), jsonl(samples.filter((_, place) => place % 2 === index)));
    return await evaluateShard(dependencies, { ...sharded, shard }, signals);
  });
  await vi.waitUntil(() => backend.started.length === 2);
  expect(backend.started.map(({ name }) => name).toSorted()).toEqual(["eval_1-s0-a1", "eval_1-s1-a1"]);
  const files = new AttemptFiles(join(root, "attempts"));
  const configs = await Promise.all(
    ["eval_1-s0", "eval_1-s1"].map(
      async (id) => JSON.parse((await files.read(id))?.configJson ?? "") as EvaluationWorkerConfig,
    ),
  );
  expect(configs.map(({ evaluationId, shard }) => [evaluationId, shard])).toEqual([
    ["eval_1", { index: 0, count: 2 }],
    ["eval_1", { index: 1, count: 2 }],
  ]);
  await report("eval_1-s0", { phase: "standalone", samples: 2, seconds: 4 });
  await finish("eval_1-s0");
  await finish("eval_1-s1");
  expect(await Promise.all(outcomes)).toEqual([
    { failure: null, seconds: 4 },
    { failure: null, seconds: null },
  ]);
  expect(api.updates.map(({ state }) => state)).toEqual(["running", "running"]);

  await joinOrFail(dependencies, { ...sharded, failure: null, seconds: 4 });
  const { scores, details } = scoreWithDetails("vqa", ["exact-match"], samples);
  expect(api.updates.at(-1)).toMatchObject({
    state: "succeeded",
    scores,
    details,
    samples: 3,
    seconds: 4,
    resultsKey: "evaluations/eval_1/results.jsonl",
  });
});

test("a shard that is told to stop stops its worker, and the evaluation fails with the reason of the other", async () => {
  const { api, backend, dependencies, signals, stop } = setUp();
  const shard = { index: 1, count: 2 };
  const outcome = evaluateShard(dependencies, { ...input, spec: { ...input.spec, shards: 2 }, shard }, signals);
  await vi.waitUntil(() => backend.started.length === 1);
  stop.abort();
  expect((await outcome).failure).not.toBeNull();
  expect(backend.gangs[0]?.asked).toContain("stop");
  await joinOrFail(dependencies, { ...input, failure: "part 1 of 2: out of memory", seconds: null });
  expect(api.updates.at(-1)).toMatchObject({ state: "failed", message: "part 1 of 2: out of memory" });
});

test("an evaluation that is told to stop stops its worker, and leaves it to the workflow to say how it ended", async () => {
  const { api, backend, dependencies, signals, stop } = setUp();
  const evaluated = evaluateWhole(dependencies, input, signals);
  await vi.waitUntil(() => backend.started.length === 1);
  stop.abort(new Error("cancelled"));
  await expect(evaluated).rejects.toThrow("cancelled");
  expect(backend.gangs[0]?.asked).toContain("stop");
  expect(api.updates.map(({ state }) => state)).toEqual(["running"]);
  await noteEnd(dependencies, { ...input, state: "cancelled", message: "cancelled" });
  expect(api.updates.at(-1)).toMatchObject({
    state: "cancelled",
    message: "cancelled",
    scores: null,
    resultsKey: null,
  });
});
