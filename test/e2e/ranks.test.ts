import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sha256 } from "@drydock/kit";
import { createTinyData } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type RunView } from "../support/embedded.ts";

/* Two ranks as two worker processes of this computer, each run the model of the repository. */
const steps = 40;
let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-ranks-"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), {
    DRYDOCK_WORKER_SLOTS: "2",
    DRYDOCK_WORKER_THREADS: "1",
    DRYDOCK_STEP_DEADLINE_SECONDS: "12",
  });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), {
    format: "openai-jsonl",
    task: "vqa",
    validationShare: 0.2,
  });
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

async function submit(name: string, gpus: number, pipelineStages = 1): Promise<string> {
  const spec = {
    name,
    model: "drydock-tiny-vl",
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    resources: { gpus, pipelineStages },
    training: { maxSteps: steps, globalBatchSize: 8, learningRate: 1e-3, lora: { dropout: 0.05 } },
    checkpoint: { everySteps: 10 },
    evaluation: { before: false, maxNewTokens: 4, maxSamples: 4 },
  };
  return (await drydock.call<{ id: string }>("POST", "/v1/runs", spec)).id;
}

async function finished(id: string): Promise<RunView> {
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: steps } });
  return run;
}

/** Digest of the adapter that a run made. */
async function weightsOf({ model }: RunView): Promise<string> {
  const [name = "", version = ""] = (model ?? "").split("@");
  return sha256(
    await readFile(join(scratch, "state", "storage", "models", name, version, "adapter_model.safetensors")),
  );
}

/** The loss of every step, as the last attempt that took it told it. */
async function lossesOf(id: string): Promise<number[]> {
  const { items } = await drydock.call<{ items: { step: number; attempt: number; loss: number }[] }>(
    "GET",
    `/v1/runs/${id}/metrics?limit=200`,
  );
  const byStep = new Map(items.toSorted((a, b) => a.attempt - b.attempt).map(({ step, loss }) => [step, loss]));
  expect([...byStep.keys()].toSorted((a, b) => a - b)).toEqual(Array.from({ length: steps }, (_, index) => index + 1));
  return Array.from({ length: steps }, (_, index) => byStep.get(index + 1) ?? Number.NaN);
}

/** The largest difference of two curves, relative to the loss. */
function difference(curve: readonly number[], other: readonly number[]): number {
  return Math.max(...curve.map((loss, step) => Math.abs(loss - (other[step] ?? 0)) / loss));
}

let undisturbed: string;
let losses: number[];

test("a run that asks for two GPUs trains on two worker processes, and the plan says so", async () => {
  const id = await submit("two", 2);
  const { plan } = await drydock.call<{ plan: { layout: object; warnings: { code: string }[] } }>(
    "GET",
    `/v1/runs/${id}`,
  );
  expect(plan.layout).toMatchObject({ gpus: 2, pods: 2, dataParallel: 2 });
  expect(plan.warnings.map(({ code }) => code)).toContain("ranks_share_machine");
  await drydock.runAtStep(id, 2);
  expect(await drydock.workers()).toHaveLength(2);
  const run = await finished(id);
  undisturbed = await weightsOf(run);
  losses = await lossesOf(id);
  expect(run.attempts).toHaveLength(1);
});

test("two ranks have the loss curve of one with the same global batch", async () => {
  const id = await submit("one", 1);
  await finished(id);
  expect(difference(await lossesOf(id), losses)).toBeLessThan(1e-5);
});

test.each([0, 1])(
  "one of two ranks killed with SIGKILL: attempt 2 resumes and ends with the same bytes",
  async (victim) => {
    const id = await submit(`killed-${victim}`, 2);
    await drydock.runAtStep(id, 15); // past the first checkpoint
    const workers = await drydock.workers();
    kill(workers[victim] ?? 0);
    const run = await finished(id);
    expect(run.attempts).toMatchObject([
      { epoch: 1, state: "failed", failureClass: "worker-lost" },
      { epoch: 2, state: "succeeded" },
    ]);
    expect(run.attempts[1]?.fromStep).toBeGreaterThan(0);
    expect(await weightsOf(run)).toBe(undisturbed);
    expect(await lossesOf(id)).toEqual(losses);
  },
);

test("a run is resized from one to two GPUs and back: its losses stay", async () => {
  const id = await submit("resized", 1);
  for (const [gpus, fromStep] of [
    [2, 5],
    [1, 20],
  ] as const) {
    await drydock.runAtStep(id, fromStep);
    await drydock.call("POST", `/v1/runs/${id}/resize`, { gpus });
    await until(`${gpus} workers run`, async () => ((await drydock.workers()).length === gpus ? true : null));
    await drydock.runIn(id, ["running", "failed"]);
  }
  const run = await finished(id);
  expect(run.attempts.map(({ state }) => state)).toEqual(["stopped", "stopped", "succeeded"]);
  expect(difference(await lossesOf(id), losses)).toBeLessThan(1e-5);
});

test("a rank that stands still is found by its steps, named, and the next attempt goes on", async () => {
  const id = await submit("hung", 2);
  await drydock.runAtStep(id, 15);
  process.kill((await drydock.workers())[1] ?? 0, "SIGSTOP");
  const run = await finished(id);
  expect(run.attempts).toMatchObject([
    {
      failureClass: "hung",
      message: "the ranks were ended because rank 1 took no step for 12 s while 1 rank waited for it",
    },
    { state: "succeeded" },
  ]);
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("two stages of a pipeline have the loss curve of one rank; with one killed, attempt 2 ends with the same bytes", async () => {
  const straight = await submit("staged", 2, 2);
  const { plan } = await drydock.call<{ plan: { layout: object } }>("GET", `/v1/runs/${straight}`);
  expect(plan.layout).toMatchObject({ gpus: 2, dataParallel: 1, pipelineStages: 2 });
  const expected = await weightsOf(await finished(straight));
  expect(difference(await lossesOf(straight), losses)).toBeLessThan(1e-5);

  const id = await submit("staged-killed", 2, 2);
  await drydock.runAtStep(id, 15);
  kill((await drydock.workers())[1] ?? 0);
  const run = await finished(id);
  expect(run.attempts).toMatchObject([{ failureClass: "worker-lost" }, { state: "succeeded" }]);
  expect(run.attempts[1]?.fromStep).toBeGreaterThan(0);
  expect(await weightsOf(run)).toBe(expected);
});
