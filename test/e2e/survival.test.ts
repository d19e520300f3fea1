import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sha256 } from "@drydock/kit";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type RunView } from "../support/embedded.ts";

let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "2" });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), { format: "openai-jsonl", task: "vqa", validationShare: 0.2 });
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

function spec(name: string, change: { maxSteps?: number; everySteps?: number } = {}): object {
  return {
    name,
    model: { uri: join(scratch, "model") },
    dataset: "colours@1",
    task: "vqa",
    allowSmall: true,
    training: { maxSteps: change.maxSteps ?? 60, globalBatchSize: 8, learningRate: 1e-3 },
    checkpoint: { everySteps: change.everySteps ?? 10 },
    evaluation: { before: false, maxNewTokens: 4 },
  };
}

async function submit(name: string, change?: { maxSteps?: number; everySteps?: number }): Promise<string> {
  return (await drydock.call<{ id: string }>("POST", "/v1/runs", spec(name, change))).id;
}

/** Digest of the adapter that a run made. */
async function weightsOf(run: RunView): Promise<string> {
  const [name, version] = (run.model ?? "").split("@");
  return sha256(await readFile(join(scratch, "state", "storage", "models", name ?? "", version ?? "", "adapter_model.safetensors")));
}

let undisturbed: string;

test("a run goes from submit to a published model", async () => {
  const run = await drydock.runIn(await submit("plain"), ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", model: "plain@1", progress: { step: 60 } });
  undisturbed = await weightsOf(run);
  const events = await drydock.call<{ items: { type: string }[] }>("GET", `/v1/runs/${run.id}/events?limit=200`);
  expect(events.items.map(({ type }) => type)).toEqual(expect.arrayContaining(["state.changed", "checkpoint.saved", "evaluation.finished", "model.published"]));
  const metrics = await drydock.call<{ items: { step: number }[] }>("GET", `/v1/runs/${run.id}/metrics?limit=200`);
  expect(metrics.items.map(({ step }) => step)).toEqual(Array.from({ length: 60 }, (_, index) => index + 1));
});

test("a run whose worker is killed with SIGKILL ends with the same bytes", async () => {
  const id = await submit("worker-killed");
  await drydock.runAtStep(id, 25);
  for (const pid of await drydock.workers()) kill(pid);
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(run.attempts.map(({ failureClass }) => failureClass)).toEqual(["worker-lost", null]);
  expect(await weightsOf(run)).toBe(undisturbed);
});

test.each(["controller", "api", "temporal"])("a run goes on when the %s process is killed", async (name) => {
  const id = await submit(`${name}-killed`);
  await drydock.runAtStep(id, 10);
  kill((await drydock.processes())[name] ?? 0);
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("a paused run frees its worker, resumes, and ends with the same bytes", async () => {
  const id = await submit("paused");
  await drydock.runAtStep(id, 10);
  await drydock.call("POST", `/v1/runs/${id}/pause`);
  const paused = await drydock.runIn(id, ["paused", "succeeded", "failed"]);
  expect(paused.state).toBe("paused");
  await until("the worker is gone", async () => ((await drydock.workers()).length === 0 ? true : null));
  await drydock.call("POST", `/v1/runs/${id}/resume`);
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("a cancelled run keeps its checkpoints", async () => {
  const id = await submit("cancelled", { maxSteps: 500 });
  await drydock.runAtStep(id, 15);
  await drydock.call("POST", `/v1/runs/${id}/cancel`);
  expect((await drydock.runIn(id, ["cancelled", "succeeded", "failed"])).state).toBe("cancelled");
  const checkpoints = await drydock.call<{ items: unknown[] }>("GET", `/v1/runs/${id}/checkpoints`);
  expect(checkpoints.items.length).toBeGreaterThan(0);
});

test("a second up on the same state is refused with the process and the URL", async () => {
  const second = new Embedded(join(scratch, "state"));
  await expect(second.up()).rejects.toThrow(new RegExp(`drydock is up on .* already \\(process ${drydock.pid}, ${drydock.url}\\): stop it there with Ctrl-C`));
});

test("everything killed at once loses nothing: the next up carries the run to its end", async () => {
  const id = await submit("all-killed");
  await drydock.runAtStep(id, 25);
  await drydock.killEverything();
  await drydock.up();
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("Ctrl-C closes in order, and the next up goes on with the run", async () => {
  const id = await submit("stopped");
  await drydock.runAtStep(id, 10);
  await drydock.down();
  expect(await drydock.workers()).toEqual([]);
  await drydock.up();
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(await weightsOf(run)).toBe(undisturbed);
});
