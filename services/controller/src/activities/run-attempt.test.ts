import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createLogger, FolderStorage, UnavailableError, type ObjectStorage } from "@drydock/kit";
import { RunSpec, type Attempt, type InternalRun, type Plan, type RunTransition } from "@drydock/spec";
import { FakeBackend, FakeGang } from "../../test/fake-backend.ts";
import { AttemptFiles } from "../attempts/attempt-files.ts";
import { AttemptHost } from "../attempts/attempt-host.ts";
import { AttemptRegistry } from "../attempts/attempt-registry.ts";
import { Capacity } from "../attempts/capacity.ts";
import { InternalApi } from "../internal-api.ts";
import { ModelLocator } from "../models/model-locator.ts";
import type { AttemptInput } from "@drydock/workflows";
import { runAttempt } from "./run-attempt.ts";

/** The rows of one run, as the api would keep them. */
class FakeApi extends InternalApi {
  readonly attempts: Attempt[] = [];
  readonly transitions: RunTransition[] = [];

  constructor() {
    super("http://127.0.0.1:1", "key");
  }

  override hasty(): InternalApi {
    return this;
  }

  override async run(): Promise<InternalRun> {
    const layout = {
      gpus: 1,
      pods: 1,
      gpusPerPod: 1,
      dataParallel: 1,
      pipelineStages: 1,
      sharding: "none",
      microBatchSize: 8,
      accumulationSteps: 2,
      recomputeActivations: false,
    } as const;
    const alternatives = [{ ...layout, microBatchSize: 4, accumulationSteps: 4 }];
    const plan = { layout, alternatives, accelerator: null, steps: { total: 10 }, digest: "p" } as Plan;
    const spec = RunSpec.parse({ name: "weld", model: "base", dataset: "weld@1", task: "vqa" });
    return {
      id: "run_1",
      state: "queued",
      spec,
      plan,
      attempts: structuredClone(this.attempts),
      datasetId: "ds_1",
      datasetVersion: 1,
    };
  }

  override async putAttempt(_runId: string, attempt: Attempt): Promise<void> {
    this.attempts[attempt.epoch - 1] = structuredClone(attempt);
  }

  override async transition(_runId: string, transition: RunTransition): Promise<void> {
    this.transitions.push(transition);
  }
}

const anAttempt = (change: Partial<Attempt> = {}): Attempt => ({
  epoch: 1,
  state: "running",
  failureClass: null,
  message: null,
  exitCode: null,
  fromStep: 0,
  lastStep: 4,
  microBatchSize: 8,
  startedAt: "2026-11-23T00:00:00.000Z",
  endedAt: null,
  ...change,
});

let root: string;
let storage: ObjectStorage;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "drydock-attempt-"));
  storage = new FolderStorage(join(root, "store"));
});
afterEach(async () => await rm(root, { recursive: true, force: true }));

function setUp(backend = new FakeBackend()) {
  const api = new FakeApi();
  const logger = createLogger("controller", { DRYDOCK_LOG_LEVEL: "silent" });
  const files = new AttemptFiles(join(root, "attempts"));
  const patience = { reportMs: 60_000, stepMs: 60_000, stopMs: 60_000 };
  const registry = new AttemptRegistry();
  const host = new AttemptHost({
    backend,
    registry,
    files,
    storageUrl: storage.url,
    controllerUrl: "http://127.0.0.1:1",
    scratchDirectory: join(root, "scratch"),
    memoryLimitBytes: null,
    patience,
    logger,
  });
  const capacity = new Capacity(1);
  const models = new ModelLocator({
    storage,
    modelsDirectory: join(root, "models"),
    cacheDirectory: join(root, "cache"),
    workersAreElsewhere: false,
  });
  models.base = async () => ({ modelDirectory: join(root, "base") });
  const stop = new AbortController();
  const abandon = new AbortController();
  const attempt = async (afterEpoch = 0, change: Pick<AttemptInput, "isStopping"> = {}) =>
    await runAttempt(
      { api, host, capacity, models, storage, threads: 1, logger },
      { runId: "run_1", afterEpoch, layout: afterEpoch === 0 ? 0 : 1, ...change },
      { stop: stop.signal, abandon: abandon.signal },
    );
  return { api, backend, files, capacity, models, stop, abandon, attempt };
}

test("an attempt gets the next epoch, a token of its own and the plan's next layout when told so", async () => {
  const { api, backend, attempt } = setUp();
  api.attempts.push(anAttempt({ state: "failed", endedAt: "2026-11-23T00:01:00.000Z" }));
  const outcome = attempt(1);
  await vi.waitUntil(() => backend.started.length === 1);
  const [gang] = backend.started;
  expect(gang).toMatchObject({
    name: "run_1-a2",
    ranks: 1,
    logKeys: ["runs/run_1/attempts/2/rank-0.log"],
    environment: { DRYDOCK_EPOCH: "2" },
    placement: { accelerator: null, gpusPerRank: 0, queue: "default", priority: "normal" },
  });
  backend.gangs[0]?.end({ exitCode: 71 });
  expect(await outcome).toMatchObject({ kind: "failed", epoch: 2, reason: "out-of-memory", lastStep: 4 });
  expect(api.attempts[1]).toMatchObject({
    state: "failed",
    failureClass: "out-of-memory",
    microBatchSize: 4,
    fromStep: 4,
  });
});

test("a worker that runs already is adopted, not started again", async () => {
  const { api, backend, files, attempt } = setUp(new FakeBackend(new FakeGang("run_1-a1")));
  api.attempts.push(anAttempt());
  await files.write("run_1", { epoch: 1, token: "t", configJson: "{}", avoidNodes: [], outcomes: [null] });
  const outcome = attempt();
  backend.gangs[0]?.end({ signal: "SIGKILL" });
  expect(await outcome).toMatchObject({ epoch: 1, reason: "worker-lost" });
  expect(backend.started).toEqual([]);
});

test("an attempt that is only to be stopped is adopted and stopped; when none runs, none is started", async () => {
  const { api, backend, files, attempt } = setUp(new FakeBackend(new FakeGang("run_1-a1")));
  api.attempts.push(anAttempt());
  await files.write("run_1", { epoch: 1, token: "t", configJson: "{}", avoidNodes: [], outcomes: [null] });
  expect(await attempt(0, { isStopping: true })).toMatchObject({ kind: "stopped", epoch: 1 });
  expect(backend.gangs[0]?.asked).toEqual(["stop"]);
  expect(await attempt(1, { isStopping: true })).toMatchObject({ kind: "stopped", epoch: null });
  expect(backend.started).toEqual([]);
});

test("a worker that went while nobody watched is lost, unless its last report said how it ended", async () => {
  const { api, files, attempt } = setUp();
  api.attempts.push(anAttempt());
  expect(await attempt()).toMatchObject({
    kind: "failed",
    epoch: 1,
    reason: "worker-lost",
    message: "the worker was gone when the controller came back",
  });
  api.attempts[0] = anAttempt();
  await files.write("run_1", {
    avoidNodes: [],
    epoch: 1,
    token: "t",
    configJson: "{}",
    outcomes: [{ exitCode: 0, reason: "completed", message: "done", modelKey: "models/weld/1" }],
  });
  expect(await attempt()).toMatchObject({ kind: "succeeded", modelKey: "models/weld/1" });
});

test("an attempt whose workers could not be started is started again under its own number and token", async () => {
  const { api, backend, files, capacity, attempt } = setUp();
  const { start } = backend;
  backend.start = async () => await Promise.reject(new UnavailableError("kube_away", "the API server is away"));
  await expect(attempt()).rejects.toThrow("the API server is away");
  await expect(attempt()).rejects.toThrow("the API server is away");
  expect(capacity.occupancy().busy).toBe(0);
  const token = (await files.read("run_1"))?.token;
  backend.start = start;
  const outcome = attempt();
  await vi.waitUntil(() => backend.gangs.length === 1);
  expect(backend.started).toMatchObject([{ name: "run_1-a1", secrets: { DRYDOCK_WORKER_TOKEN: token } }]);
  backend.gangs[0]?.end({ exitCode: 71 });
  expect(await outcome).toMatchObject({ kind: "failed", epoch: 1, reason: "out-of-memory" });
  expect(api.attempts).toHaveLength(1);
});

test("an attempt that could not be started and is to be stopped is not started", async () => {
  const { api, backend, attempt } = setUp();
  api.attempts.push(anAttempt({ state: "starting" }));
  expect(await attempt(0, { isStopping: true })).toMatchObject({ epoch: 1 });
  expect(backend.started).toEqual([]);
});

test("an attempt that ended before the workflow heard of it is answered, not made again", async () => {
  const { api, backend, attempt } = setUp();
  api.attempts.push(
    anAttempt({ state: "failed", failureClass: "bad-data", message: "row 3", endedAt: "2026-11-23T00:01:00.000Z" }),
  );
  expect(await attempt(0)).toMatchObject({ kind: "failed", epoch: 1, reason: "bad-data", message: "row 3" });
  expect(backend.started).toEqual([]);
});

test("a run that is stopped while it waits holds no slot and started nothing", async () => {
  const { api, backend, capacity, stop, attempt } = setUp();
  const release = capacity.occupy();
  const outcome = attempt();
  await vi.waitUntil(() => api.transitions.length === 1);
  expect(api.transitions[0]).toMatchObject({ to: "queued", reason: "waiting-for-capacity" });
  stop.abort();
  expect(await outcome).toMatchObject({ kind: "stopped", epoch: null });
  release();
  expect(backend.started).toEqual([]);
});

test("a reason to wait that is told late never stands for what the run does", async () => {
  const { api, backend, capacity, attempt } = setUp();
  const held = capacity.occupy(capacity.occupancy().slots);
  const isTold = Promise.withResolvers<void>();
  const tell = api.transition.bind(api);
  api.transition = async (runId, transition) => {
    if (transition.reason === "waiting-for-capacity") await isTold.promise;
    await tell(runId, transition);
  };
  const outcome = attempt();
  await vi.waitUntil(() => capacity.occupancy().busy > 0);
  held();
  setTimeout(() => isTold.resolve(), 100);
  await vi.waitUntil(() => backend.gangs.length === 1);
  backend.gangs[0]?.end({ exitCode: 0 });
  await outcome;
  expect(api.transitions.map(({ to }) => to)).toEqual(["queued", "scheduling"]);
});

test("a stop reaches the worker, and its end is a stop", async () => {
  const { backend, stop, attempt } = setUp();
  const outcome = attempt();
  await vi.waitUntil(() => backend.gangs.length === 1);
  stop.abort();
  expect(await outcome).toMatchObject({ kind: "stopped", epoch: 1 });
  expect(backend.gangs[0]?.asked).toEqual(["stop"]);
});

test("an activity that is given up leaves its worker alone, and the slot stays the worker's", async () => {
  const { backend, capacity, abandon, attempt } = setUp();
  const outcome = attempt();
  await vi.waitUntil(() => backend.gangs.length === 1);
  abandon.abort(new Error("the server forgot us"));
  await expect(outcome).rejects.toThrow("the server forgot us");
  expect(backend.gangs[0]?.asked).toEqual([]);
  const next = capacity.acquire(
    { id: "run_2", priority: "high", queue: "default", slots: 1, accelerator: null, gpus: 0, tell: () => undefined },
    AbortSignal.timeout(50),
  );
  await expect(next).rejects.toThrow("timeout");
});

test("a config that cannot be made fails the run with the reason and gives the slot back", async () => {
  const { capacity, models, attempt } = setUp();
  models.base = ModelLocator.prototype.base;
  expect(await attempt()).toMatchObject({
    kind: "failed",
    epoch: null,
    reason: "bad-config",
    message: expect.stringContaining('model "base"') as string,
  });
  await expect(
    capacity.acquire(
      { id: "run_2", priority: "low", queue: "default", slots: 1, accelerator: null, gpus: 0, tell: () => undefined },
      new AbortController().signal,
    ),
  ).resolves.toBeTypeOf("function");
});
