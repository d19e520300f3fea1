import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sha256 } from "@drydock/kit";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type EvaluationView, type RunView } from "../support/embedded.ts";

let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "2", DRYDOCK_REPORT_DEADLINE_SECONDS: "12" });
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
  return sha256(
    await readFile(join(scratch, "state", "storage", "models", name ?? "", version ?? "", "adapter_model.safetensors")),
  );
}

let undisturbed: string;

test("a run goes from submit to a published model", async () => {
  const run = await drydock.runIn(await submit("plain"), ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", model: "plain@1", progress: { step: 60 } });
  undisturbed = await weightsOf(run);
  const events = await drydock.call<{ items: { type: string }[] }>("GET", `/v1/runs/${run.id}/events?limit=200`);
  expect(events.items.map(({ type }) => type)).toEqual(
    expect.arrayContaining(["state.changed", "checkpoint.saved", "evaluation.finished", "model.published"]),
  );
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

test("a run goes on when up alone is killed and started again", async () => {
  const id = await submit("up-killed");
  await drydock.runAtStep(id, 10);
  await drydock.killUp();
  await drydock.up();
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("Temporal and the api gone for 30 s are ridden out", async () => {
  const id = await submit("servers-gone");
  await drydock.runAtStep(id, 5);
  const { temporal = 0, api = 0 } = await drydock.processes();
  for (const pid of [temporal, api]) process.kill(pid, "SIGSTOP");
  await delay(30_000);
  for (const pid of [temporal, api]) process.kill(pid, "SIGCONT");
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(run.attempts.map(({ epoch }) => epoch)).toEqual([1]);
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("a worker that hangs is ended, and the run goes on from its checkpoint", async () => {
  const id = await submit("hung");
  await drydock.runAtStep(id, 15);
  for (const pid of await drydock.workers()) process.kill(pid, "SIGSTOP");
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "succeeded", progress: { step: 60 } });
  expect(run.attempts.map(({ failureClass }) => failureClass)).toEqual(["hung", null]);
  expect(await weightsOf(run)).toBe(undisturbed);
});

test("a run that waits says why, and starts when a slot is free", async () => {
  const long = [await submit("long-1", { maxSteps: 2000 }), await submit("long-2", { maxSteps: 2000 })];
  for (const id of long) await drydock.runAtStep(id, 1);
  const waiting = await submit("waiting");
  const behind = await submit("behind");
  const told = await until("the run behind says why it waits", async () => {
    const run = await drydock.run(behind);
    return run.reason === "waiting-for-capacity" ? run : null;
  });
  expect(told).toMatchObject({
    state: "queued",
    message: 'needs a worker slot on this computer; 2 of 2 slots are busy; 1 run ahead in queue "default"',
  });
  for (const id of long) await drydock.call("POST", `/v1/runs/${id}/cancel`);
  for (const id of [waiting, behind])
    expect(await drydock.runIn(id, ["succeeded", "failed"])).toMatchObject({ state: "succeeded" });
});

test("a run whose model folder is damaged fails at once and names the file", async () => {
  const damaged = join(scratch, "damaged");
  await cp(join(scratch, "model"), damaged, { recursive: true });
  await writeFile(join(damaged, "model.safetensors"), "not a safetensors file");
  const { id } = await drydock.call<{ id: string }>("POST", "/v1/runs", {
    ...spec("damaged"),
    model: { uri: damaged },
  });
  const run = await drydock.runIn(id, ["succeeded", "failed"]);
  expect(run).toMatchObject({ state: "failed", reason: "bad-config", attempts: [{ epoch: 1, state: "failed" }] });
  expect(run.message).toContain("model.safetensors");
});

test("an upload with nothing usable is a failed version that says which row and why", async () => {
  const broken = join(scratch, "broken");
  await mkdir(broken);
  await writeFile(join(broken, "data.jsonl"), '{"messages": [\n');
  await expect(drydock.importFolder("broken", broken, { format: "openai-jsonl", task: "vqa" })).rejects.toThrow(
    /none of 1 rows can be used/,
  );
});

test("an evaluation of its own scores a base and an adapter", async () => {
  for (const model of [{ uri: join(scratch, "model") }, "plain@1"]) {
    const asked = { model, dataset: "colours@1", task: "vqa", maxSamples: 4, maxNewTokens: 4 };
    const { id } = await drydock.call<{ id: string }>("POST", "/v1/evaluations", asked);
    const done = await until(`evaluation ${id} is over`, async () => {
      const found = await drydock.call<EvaluationView>("GET", `/v1/evaluations/${id}`);
      return found.state === "queued" || found.state === "running" ? null : found;
    });
    expect(done).toMatchObject({ state: "succeeded", samples: 4, resultsKey: `evaluations/${id}/results.jsonl` });
    expect(done.scores).toHaveProperty("exact-match");
  }
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
  await expect(second.up()).rejects.toThrow(
    new RegExp(`drydock is up on .* already \\(process ${drydock.pid}, ${drydock.url}\\): stop it there with Ctrl-C`),
  );
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
