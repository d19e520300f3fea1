import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Checkpoint, Sweep, SweepTrial } from "@drydock/spec";
import { createTinyData, createTinyModel } from "../../services/worker/test/tiny-model.ts";
import { Embedded, kill, until, type RunView } from "../support/embedded.ts";

let scratch: string;
let drydock: Embedded;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-e2e-sweep-"));
  await createTinyModel(join(scratch, "model"));
  await createTinyData(join(scratch, "data"), 40);
  drydock = new Embedded(join(scratch, "state"), { DRYDOCK_WORKER_SLOTS: "4" });
  await drydock.up();
  await drydock.importFolder("colours", join(scratch, "data"), { task: "vqa", validationShare: 0.2 });
});
afterAll(async () => {
  await drydock.down();
  await rm(scratch, { recursive: true, force: true });
});

async function submit(change: object): Promise<string> {
  const { id } = await drydock.call<Sweep>("POST", "/v1/sweeps", {
    name: "rates",
    run: {
      name: "swept",
      model: { uri: join(scratch, "model") },
      dataset: "colours@1",
      task: "vqa",
      allowSmall: true,
      training: { globalBatchSize: 8 },
      checkpoint: { everySteps: 5 },
      evaluation: { before: false, maxNewTokens: 2 },
    },
    space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-2 } },
    ...change,
  });
  return id;
}
const sweepOf = async (id: string): Promise<Sweep> => await drydock.call("GET", `/v1/sweeps/${id}`);
const trialsOf = async (id: string): Promise<SweepTrial[]> =>
  (await drydock.call<{ items: SweepTrial[] }>("GET", `/v1/sweeps/${id}/trials`)).items;
const ended = async (id: string): Promise<Sweep> =>
  await until("the sweep is over", async () => {
    const sweep = await sweepOf(id);
    return sweep.endedAt === null ? null : sweep;
  });

test("successive halving over eight trials, three side by side, with controller and api killed, ends with its best", async () => {
  const search = { kind: "asha", trials: 8, seed: 4, minSteps: 20, maxSteps: 180, reductionFactor: 3 };
  const id = await submit({ search, metric: "loss", maxParallel: 3 });
  let most = 0;
  const watching = until("all trials are started", async () => {
    const { trials } = await sweepOf(id).catch(() => ({ trials: { running: 0, started: 0 } }));
    most = Math.max(most, trials.running);
    return trials.started === 8 ? true : null;
  });
  await until("a trial runs", async () => ((await sweepOf(id)).trials.started > 2 ? true : null));
  kill((await drydock.processes())["controller"] as number);
  await until("a trial is stopped", async () => {
    const sweep = await sweepOf(id).catch(() => null);
    return (sweep?.trials.stopped ?? 0) > 0 ? true : null;
  });
  kill((await drydock.processes())["api"] as number);
  await watching;
  const sweep = await ended(id);
  expect(most).toBeLessThanOrEqual(3);
  expect(sweep).toMatchObject({ state: "succeeded", metric: "loss", goal: "min" });
  const trials = await trialsOf(id);
  expect(trials.map(({ number }) => number).toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(new Set(trials.map(({ runId }) => runId)).size).toBe(8);
  const stopped = trials.filter(({ state }) => state === "stopped");
  expect(stopped.length).toBeGreaterThanOrEqual(3);
  for (const trial of stopped) {
    expect(trial.message).toMatch(
      /^stopped at (20|60) steps: its score of [\d.]+ is above [\d.]+, the best 1\/3 of \d trials there$/,
    );
    expect(trial.steps).toBeLessThanOrEqual(180);
    const run = await drydock.call<RunView>("GET", `/v1/runs/${trial.runId}`);
    expect(run.state).toBe("cancelled");
    const { items } = await drydock.call<{ items: Checkpoint[] }>("GET", `/v1/runs/${trial.runId}/checkpoints`);
    expect(items.length).toBeGreaterThan(0);
  }
  const best = trials[0]!;
  expect(sweep.best).toMatchObject({ trial: best.number, runId: best.runId, score: best.score });
  expect(best.model).toMatch(/^swept@\d+$/);
  // Eight whole trials would take 1,440 steps.
  expect(sweep.steps).toBeLessThan(1440 * 0.75);
});

test("a sweep is paused, goes on with another parallelism, and is cancelled", async () => {
  const search = { kind: "random", trials: 6, seed: 1 };
  const id = await submit({
    search,
    maxParallel: 2,
    run: {
      name: "swept",
      model: { uri: join(scratch, "model") },
      dataset: "colours@1",
      task: "vqa",
      allowSmall: true,
      training: { globalBatchSize: 8, maxSteps: 4000 },
      evaluation: { before: false, maxNewTokens: 2 },
    },
  });
  const running = async (count: number): Promise<true> =>
    await until(`${count} trials run`, async () => {
      const trials = await trialsOf(id);
      const runs = await Promise.all(trials.map(async ({ runId }) => await drydock.run(runId ?? "")));
      return runs.filter(({ state }) => state === "running").length === count ? true : null;
    });
  await running(2);
  await drydock.call("POST", `/v1/sweeps/${id}/pause`);
  await until("both are paused and hold no worker", async () => {
    const trials = await trialsOf(id);
    return trials.every(({ state }) => state === "paused") && (await drydock.workers()).length === 0 ? true : null;
  });
  await drydock.call("PATCH", `/v1/sweeps/${id}`, { maxParallel: 3 });
  await drydock.call("POST", `/v1/sweeps/${id}/resume`);
  await running(3);
  await drydock.call("POST", `/v1/sweeps/${id}/cancel`);
  expect(await ended(id)).toMatchObject({ state: "cancelled", best: null });
  expect(await drydock.workers()).toEqual([]);
});
