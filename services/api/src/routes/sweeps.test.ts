import type { ParallelCoordinates, Sweep, SweepAction, SweepFacts, SweepTrial } from "@drydock/spec";
import { eq } from "drizzle-orm";
import { expect, test, vi } from "vitest";
import { aSpec, onEachDatabase, useApi } from "../../test/support/api.ts";
import { attempts, evaluations, runs, stepMetrics, sweeps } from "../store/schema.ts";

onEachDatabase("sweeps", (location) => {
  const api = useApi(location);

  async function body(change: object = {}): Promise<object> {
    const dataset = await api().readyDataset();
    return {
      name: "rates",
      run: aSpec({ dataset }),
      space: { "training.learningRate": { type: "log", low: 1e-5, high: 1e-3 } },
      search: { kind: "asha", trials: 4, seed: 3, minSteps: 10, maxSteps: 90, reductionFactor: 3 },
      maxParallel: 2,
      ...change,
    };
  }
  const act = async (id: string, action: SweepAction): Promise<unknown> =>
    await api().ok("POST", `/internal/v1/sweeps/${id}/actions`, action);
  const facts = async (id: string): Promise<SweepFacts> => await api().ok("GET", `/internal/v1/sweeps/${id}/facts`);
  const trials = async (id: string): Promise<SweepTrial[]> =>
    (await api().ok<{ items: SweepTrial[] }>("GET", `/v1/sweeps/${id}/trials`)).items;

  test("a sweep is written with its workflow; the same key gives the same one", async () => {
    const asked = await body();
    const headers = { "idempotency-key": "sweep-once" };
    const first = await api().send("POST", "/v1/sweeps", { body: asked, headers });
    expect(first.statusCode).toBe(201);
    const sweep = first.json<Sweep>();
    expect(sweep).toMatchObject({ state: "running", metric: "exact-match", goal: "max", best: null, parent: null });
    expect(sweep.trials).toMatchObject({ planned: 4, started: 0 });
    const again = await api().send("POST", "/v1/sweeps", { body: asked, headers });
    expect(again.json<Sweep>().id).toBe(sweep.id);
    await expect.poll(() => api().workflows.started).toContainEqual(expect.objectContaining({ workflowId: sweep.id }));
  });

  test("trials are runs of the sweep, each made once, with rungs, a leaderboard and lines to plot", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    for (const trial of [1, 1, 2]) await act(id, { kind: "start", trial });
    const [one, two] = (await facts(id)).trials;
    expect((await facts(id)).trials).toHaveLength(2);
    const run = await api().ok<{ parent: object; spec: { evaluation: object; training: object } }>(
      "GET",
      `/v1/runs/${one!.runId}`,
    );
    expect(run.parent).toEqual({ kind: "sweep", id, part: "1" });
    expect(run.spec.evaluation).toMatchObject({ atSteps: [10, 30] });
    expect(run.spec.training).toMatchObject({ maxSteps: 90 });

    const { database } = api().services;
    await database.update(runs).set({ state: "running" }).where(eq(runs.id, one!.runId!));
    await database
      .update(runs)
      .set({ state: "succeeded", scoresAfter: { "exact-match": 61 }, model: "weld-defects@1" })
      .where(eq(runs.id, two!.runId!));
    await database.insert(evaluations).values({
      id: "eval_rung",
      runId: one!.runId,
      phase: "during",
      step: 10,
      state: "succeeded",
      message: "",
      spec: {} as never,
      scores: { "exact-match": 12.5 },
      samples: 4,
    });
    await database.insert(attempts).values({
      runId: two!.runId!,
      epoch: 1,
      state: "succeeded",
      fromStep: 0,
      lastStep: 90,
      startedAt: new Date("2026-11-23T00:00:00Z"),
      endedAt: new Date("2026-11-23T01:00:00Z"),
    });
    expect((await facts(id)).trials[0]).toMatchObject({ runState: "running", rungs: [{ step: 10, score: 12.5 }] });
    const gpus = (await api().ok<{ plan: { layout: { gpus: number } } }>("GET", `/v1/runs/${two!.runId}`)).plan.layout
      .gpus;
    const sweep = await api().ok<Sweep>("GET", `/v1/sweeps/${id}`);
    expect(sweep.best).toEqual({ trial: 2, runId: two!.runId, model: "weld-defects@1", score: 61 });
    expect(sweep.gpuHours).toBeCloseTo(gpus, 6);
    expect((await trials(id)).map(({ number, score }) => [number, score])).toEqual([
      [2, 61],
      [1, 12.5],
    ]);
    const plot = await api().ok<ParallelCoordinates>("GET", `/v1/sweeps/${id}/parallel-coordinates`);
    expect(plot.axes.map(({ name, scale }) => [name, scale])).toEqual([
      ["training.learningRate", "log"],
      ["exact-match", "linear"],
    ]);
    expect(plot.lines[0]).toMatchObject({ trial: 2, values: [expect.any(Number), 61] });
  });

  test("a trial that is stopped has its run cancelled and says why; doing it again changes nothing", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    await act(id, { kind: "start", trial: 1 });
    for (let time = 0; time < 2; time++) await act(id, { kind: "stop", trial: 1, message: "stopped at 10 steps" });
    const [trial] = await trials(id);
    expect(trial).toMatchObject({ state: "stopped", message: "stopped at 10 steps" });
    expect(await api().ok("GET", `/v1/runs/${trial!.runId}`)).toMatchObject({ reason: "cancel-requested" });
    await expect
      .poll(() => api().workflows.signals)
      .toContainEqual(expect.objectContaining({ workflowId: trial!.runId, signal: "cancel" }));
  });

  test("paused, resumed, widened and cancelled; what is over or has changed is refused", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    expect(await api().ok("POST", `/v1/sweeps/${id}/pause`)).toMatchObject({ state: "paused" });
    await act(id, { kind: "start", trial: 1 });
    expect((await facts(id)).trials).toEqual([]);
    const resumed = await api().ok<Sweep>("POST", `/v1/sweeps/${id}/resume`);
    const changed = await api().send("PATCH", `/v1/sweeps/${id}`, {
      body: { maxParallel: 4 },
      headers: { "if-match": resumed.etag },
    });
    expect(changed.json()).toMatchObject({ maxParallel: 4 });
    const stale = await api().refused("POST", `/v1/sweeps/${id}/cancel`, { headers: { "if-match": resumed.etag } });
    expect(stale).toMatchObject({ status: 412, code: "sweep_changed" });
    expect(await api().ok("POST", `/v1/sweeps/${id}/cancel`)).toMatchObject({ state: "cancelling" });
    expect(await api().refused("POST", `/v1/sweeps/${id}/resume`)).toMatchObject({ code: "sweep_is_cancelling" });
    await act(id, { kind: "end", state: "cancelled", message: "cancelled" });
    expect(await api().refused("PATCH", `/v1/sweeps/${id}`, { body: { maxParallel: 1 } })).toMatchObject({
      code: "sweep_is_over",
      detail: `sweep ${id} has been cancelled and can no longer be changed: submit a new one`,
    });
  });

  test.each<[string, object, string]>([
    ["an empty space", { space: {} }, "space: the space is empty"],
    [
      "a type clash",
      { space: { "training.learningRate": { type: "choice", values: ["fast"] } } },
      'space.training.learningRate: "fast" does not fit training.learningRate',
    ],
    [
      "a metric that no run evaluates",
      { metric: "anls" },
      "metric: runs are to be compared by anls, but evaluate only exact-match",
    ],
    ["a metric that there is not", { metric: "iou@0.5" }, "iou@0.5"],
    ["a run that its plan refuses", { run: { mode: "lora", model: "nvila-lite-2b" } }, "run."],
  ])("%s is refused", async (_name, change, sentence) => {
    const asked = (await body()) as { run: object };
    const merged = { ...asked, ...change, run: { ...asked.run, ...("run" in change ? (change.run as object) : {}) } };
    const problem = await api().refused("POST", "/v1/sweeps", { body: merged });
    expect([400, 422]).toContain(problem.status);
    expect(problem.detail).toContain(sentence);
  });

  test("a sweep that is not there is said so", async () => {
    expect(await api().refused("GET", "/v1/sweeps/sweep_none")).toMatchObject({
      code: "sweep_not_found",
      detail: 'there is no sweep "sweep_none": list them with GET /v1/sweeps',
    });
  });

  test("a parent has one sweep, however often it asks", async () => {
    const spec = await body();
    const parent = { kind: "pipeline", id: "prun_1", part: "sweep" };
    const first = await api().ok<{ id: string }>("POST", "/internal/v1/sweeps", { spec, parent });
    expect(await api().ok("POST", "/internal/v1/sweeps", { spec, parent })).toEqual(first);
    expect(await api().ok("GET", `/internal/v1/sweeps/${first.id}`)).toMatchObject({ state: "running", best: null });
  });

  test("a trial that a person has moved on since the decision is left as it is, and does not end the sweep", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    await act(id, { kind: "start", trial: 1 });
    const { runId } = (await facts(id)).trials[0]!;
    const { database } = api().services;
    const set = async (state: "running" | "paused"): Promise<unknown> =>
      await database.update(runs).set({ state }).where(eq(runs.id, runId!));
    await set("running");
    await act(id, { kind: "hold", trial: 1 });
    await set("paused");
    // A person resumed it by hand, and it runs already.
    await set("running");
    await act(id, { kind: "release", trial: 1 });
    expect((await facts(id)).trials[0]).toMatchObject({ decision: "open", runState: "running" });
  });

  test("a trial of a sweep of before whose settings make no run is a failed trial", async () => {
    const sweep = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    const space = { "training.lora.rank": { type: "choice" as const, values: [4, 2.5] } };
    const { database } = api().services;
    await database
      .update(sweeps)
      .set({ spec: { ...sweep.spec, space, search: { kind: "grid", points: 2 } } })
      .where(eq(sweeps.id, sweep.id));
    await act(sweep.id, { kind: "start", trial: 2 });
    const [trial] = await trials(sweep.id);
    expect(trial).toMatchObject({ number: 2, state: "failed", runId: null });
    expect(trial?.message).toContain("training.lora.rank: Invalid input: expected int");
  });

  test("a sweep that fails for good leaves no trial running that nobody would stop", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body());
    await act(id, { kind: "start", trial: 1 });
    await act(id, { kind: "end", state: "failed", message: "it cannot go on" });
    const [trial] = await trials(id);
    expect(await api().ok("GET", `/v1/runs/${trial!.runId}`)).toMatchObject({ reason: "cancel-requested" });
    expect(await api().ok("GET", `/v1/sweeps/${id}`)).toMatchObject({ state: "failed", message: "it cannot go on" });
  });

  test("losses of all trials are read by one query, at rungs and at the last step", async () => {
    const { id } = await api().ok<Sweep>("POST", "/v1/sweeps", await body({ metric: "loss" }));
    for (const trial of [1, 2]) await act(id, { kind: "start", trial });
    const runIds = (await facts(id)).trials.map(({ runId }) => runId!);
    const { database, sweeps: store } = api().services;
    for (const [place, runId] of runIds.entries()) {
      const lastStep = place === 0 ? 12 : 31;
      await database.insert(stepMetrics).values(
        Array.from({ length: lastStep }, (_, index) => ({
          runId,
          sequence: index + 1,
          step: index + 1,
          attempt: 1,
          time: new Date(),
          loss: 100 - index,
          learningRate: 1,
          gradientNorm: 1,
          tokens: 1,
          seconds: 1,
          memoryBytes: 1,
        })),
      );
      const [row] = await database.select().from(runs).where(eq(runs.id, runId));
      const progress = { ...row!.progress, step: lastStep };
      await database.update(runs).set({ progress }).where(eq(runs.id, runId));
    }
    const select = vi.spyOn(database, "select");
    const records = await store.trials(id, [10, 30, 2 ** 40]);
    expect(select.mock.calls.length).toBeLessThan(8);
    select.mockRestore();
    expect(records.map(({ losses }) => losses)).toEqual([
      [
        { step: 10, score: 93 },
        { step: 12, score: 91 },
      ],
      [
        { step: 10, score: 93 },
        { step: 30, score: 73 },
        { step: 31, score: 72 },
      ],
    ]);
  });
});
