import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Model, PipelineEvent, PipelineRun, Sweep } from "@drydock/spec";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until } from "../support/embedded.ts";

let scratch: string;
let drydock: Embedded;
const options = { format: "openai-jsonl", task: "vqa", validationShare: 0.3 };

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-pipeline-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 60);
  await createTinyData(join(scratch, "poisoned"), 60);
  const poisoned = join(scratch, "poisoned", "data.jsonl");
  // Every picture is said to be green.
  await writeFile(
    poisoned,
    (await readFile(poisoned, "utf8")).replaceAll(/"content":"(red|blue)"/g, '"content":"green"'),
  );
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "3" });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), options);
  await drydock.importFolder("trusted", join(scratch, "data"), options);
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

const template = () => ({
  name: "painter",
  model: { uri: join(scratch, "model") },
  mode: "full",
  task: "vqa",
  allowSmall: true,
  training: { globalBatchSize: 16 },
  evaluation: { before: false, maxNewTokens: 8 },
});
const production = async (): Promise<number> =>
  (await drydock.call<Model>("GET", "/v1/models/painter/versions/production")).version;
const latestRun = async (): Promise<PipelineRun | null> =>
  (await drydock.call<{ items: PipelineRun[] }>("GET", "/v1/pipelines/colours/runs")).items[0] ?? null;
const ended = async (number: number): Promise<PipelineRun> =>
  await until(
    `run ${number} of the pipeline is over`,
    async () => {
      const run = await latestRun().catch(() => null);
      return run?.number === number && run.endedAt !== null ? run : null;
    },
    240_000,
  );

/** No gap, and nothing twice. */
async function checkTimeline(id: string): Promise<PipelineEvent[]> {
  const { items } = await drydock.call<{ items: PipelineEvent[] }>("GET", `/v1/pipeline-runs/${id}/timeline`);
  expect(items.map(({ sequence }) => sequence)).toEqual(items.map((_, index) => index + 1));
  const said = items.map(({ type, step }) => `${type}/${step}`);
  expect(new Set(said).size).toBe(said.length);
  return items;
}

test("a first version is put into production by hand, and a pipeline is made", async () => {
  const training = { globalBatchSize: 16, maxSteps: 1, learningRate: 1e-6 };
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    ...template(),
    dataset: "colours@1",
    training,
  });
  expect((await drydock.runIn(id, ["succeeded", "failed"])).model).toBe("painter@1");
  await drydock.call("POST", "/v1/models/painter/versions/1/stage", { to: "production" });
  await drydock.call("POST", "/v1/pipelines", {
    name: "colours",
    dataset: "colours",
    steps: [
      { type: "validate" },
      {
        type: "sweep",
        sweep: {
          name: "rates",
          run: template(),
          space: { "training.learningRate": { type: "log", low: 1e-4, high: 3e-2 } },
          search: { kind: "asha", trials: 8, seed: 2, minSteps: 10, maxSteps: 90, reductionFactor: 3 },
          metric: "loss",
          maxParallel: 3,
        },
      },
      { type: "evaluate", dataset: "trusted@1", metrics: ["exact-match"] },
      { type: "gate", rules: ["candidate.exact-match >= production.exact-match with significance 0.05"] },
      { type: "promote" },
    ],
    triggers: [{ type: "dataset" }],
  });
});

test("new data starts it: sweep, evaluation, gate and promotion, with controller and api killed in between", async () => {
  await drydock.importVersion("colours", join(scratch, "data"), options);
  const sweepId = await until("the sweep has started", async () => (await latestRun())?.results.sweepId ?? null);
  await until("trials run", async () => {
    const { trials } = await drydock.call<Sweep>("GET", `/v1/sweeps/${sweepId}`);
    return trials.started >= 3 ? true : null;
  });
  kill((await drydock.processes())["controller"] as number);
  await until(
    "the candidate is evaluated",
    async () => ((await latestRun().catch(() => null))?.step === "evaluate" ? true : null),
    240_000,
  );
  kill((await drydock.processes())["api"] as number);
  const run = await ended(1);
  expect(run).toMatchObject({ state: "succeeded", trigger: { type: "dataset", detail: "colours@2 is ready" } });
  expect(run.results.gate).toMatchObject({ passed: true });
  expect(run.message).toBe(`${run.results.candidate} is in production`);
  expect(`painter@${await production()}`).toBe(run.results.candidate);
  const sweep = await drydock.call<Sweep>("GET", `/v1/sweeps/${sweepId}`);
  expect(sweep).toMatchObject({
    state: "succeeded",
    trials: { started: 8 },
    parent: { kind: "pipeline", id: run.id, part: "sweep" },
  });
  const events = await checkTimeline(run.id);
  expect(events.map(({ type }) => type)).toEqual([
    "triggered",
    ...Array(5).fill(["step.started", "step.done"]).flat(),
    "ended",
  ]);
});

test("poisoned data is refused by the gate with the reason, and production stays", async () => {
  const before = await production();
  await drydock.importVersion("colours", join(scratch, "poisoned"), options);
  const run = await ended(2);
  expect(run.state).toBe("refused");
  expect(run.message).toMatch(
    /^the gate refused painter@\d+: candidate\.exact-match is [\d.]+, production's is [\d.]+ \(\d+ rows\): it must be at least [\d.]+$/,
  );
  expect(await production()).toBe(before);
  await checkTimeline(run.id);
});

test("reported answers of a promoted version get worse: it is rolled back by itself", async () => {
  const before = await production();
  const training = { globalBatchSize: 16, maxSteps: 1, learningRate: 1e-6 };
  const watch = { type: "watch", metric: "exact-match", minimum: 50, windowSeconds: 3600, minimumSamples: 20 };
  await drydock.call("POST", "/v1/pipelines", {
    name: "watched",
    dataset: "trusted",
    steps: [{ type: "train", run: { ...template(), training } }, { type: "promote" }, watch],
  });
  const { id } = await drydock.call<PipelineRun>("POST", "/v1/pipelines/watched/trigger", {});
  const runOf = async (): Promise<PipelineRun | null> =>
    await drydock.call<PipelineRun>("GET", `/v1/pipeline-runs/${id}`).catch(() => null);
  await until("it is watched", async () => ((await runOf())?.step === "watch" ? true : null));
  expect(await production()).not.toBe(before);
  kill((await drydock.processes())["controller"] as number);
  await drydock.call("POST", "/v1/models/painter/observations", {
    observations: Array.from({ length: 30 }, (_, index) => ({
      key: `camera-${index}`,
      time: new Date().toISOString(),
      answer: index < 10 ? "red" : "?",
      truth: "red",
    })),
  });
  const run = await until("it is rolled back", async () => {
    const found = await runOf();
    return found && found.endedAt !== null ? found : null;
  });
  expect(run).toMatchObject({ state: "rolled-back" });
  expect(run.message).toMatch(
    /^live exact-match of painter@\d+ fell to 33\.33 on 30 answers, below 50: painter@\d+ is in production again$/,
  );
  expect(await production()).toBe(before);
  await checkTimeline(id);
});

test("a run is rolled back in one call", async () => {
  const { items } = await drydock.call<{ items: PipelineRun[] }>("GET", "/v1/pipelines/colours/runs");
  const first = items.find(({ number }) => number === 1)!;
  await drydock.call("POST", `/v1/pipeline-runs/${first.id}/rollback`, { comment: "it mistakes blue for red" });
  expect(await production()).toBe(1);
  const events = await checkTimeline(first.id);
  expect(events.at(-1)).toMatchObject({
    type: "rolled-back",
    message: "painter@1 is in production again: it mistakes blue for red",
  });
});
