import type { Run, RunEvent, RunSummary, StepMetric } from "@drydock/spec";
import { expect, test, vi } from "vitest";
import { aSpec, onEachDatabase, useApi } from "../../test/support/api.ts";
import type { Page } from "../pages.ts";

onEachDatabase("runs", (location) => {
  const api = useApi(location);

  const transition = async (id: string, key: string, to: string, reason = "worker-joined") =>
    await api().ok<{ applied: boolean; state: string }>("POST", `/internal/v1/runs/${id}/transitions`, {
      key,
      to,
      reason,
      message: `now ${to}`,
    });

  test("a submitted run is validating, has its plan, and its workflow starts under its id", async () => {
    const dataset = await api().readyDataset();
    const response = await api().send("POST", "/v1/runs", { body: aSpec({ dataset }) });
    const run = response.json<Run>();
    expect(response.statusCode).toBe(201);
    expect(response.headers.location).toBe(`/v1/runs/${run.id}`);
    expect(run).toMatchObject({
      state: "validating",
      reason: "submitted",
      spec: { dataset: `${dataset}@1`, training: { epochs: 3 } },
    });
    expect(run.plan.steps.total).toBe(30);
    await vi.waitFor(() =>
      expect(api().workflows.started).toContainEqual({
        workflow: "fineTuneRun",
        workflowId: run.id,
        input: { runId: run.id },
      }),
    );
    expect(await api().ok("GET", `/v1/runs/${run.id}`)).toEqual(run);
    expect(await api().ok("GET", `/v1/runs/${run.id}/plan`)).toEqual(run.plan);
  });

  test("the plan that was shown is the plan that is submitted, and another one is refused", async () => {
    const dataset = await api().readyDataset();
    const plan = await api().ok<{ digest: string }>("POST", "/v1/plans", aSpec({ dataset }));
    const run = await api().ok<Run>("POST", "/v1/runs", { ...aSpec({ dataset }), expect: { planDigest: plan.digest } });
    expect(run.plan.digest).toBe(plan.digest);
    const problem = await api().refused("POST", "/v1/runs", {
      body: { ...aSpec({ dataset, mode: "full" }), expect: { planDigest: plan.digest } },
    });
    expect(problem).toMatchObject({ status: 409, code: "plan_changed", errors: [{ path: "expect.planDigest" }] });
  });

  test.each([
    ["/v1/plans", "evaluation.metrics.1", (metrics: string[]) => ({ evaluation: { metrics } })],
    ["/v1/runs", "evaluation.metrics.1", (metrics: string[]) => ({ evaluation: { metrics } })],
    ["/v1/evaluations", "metrics.1", (metrics: string[]) => ({ metrics })],
  ])("%s refuses a metric that the task does not have", async (url, path, asking) => {
    const { model } = aSpec({});
    const body = { dataset: await api().readyDataset(), model, task: "vqa", ...asking(["exact-match", "map"]) };
    const named = url === "/v1/evaluations" ? body : { ...aSpec({}), ...body };
    const problem = await api().refused("POST", url, { body: named });
    expect(problem).toMatchObject({ status: 400, code: "unknown_metric", errors: [{ path }] });
    expect(problem.detail).toContain('metric "map" is not one of task "vqa"; use exact-match');
  });

  test("a run goes through its states, one event each, and ends for good", async () => {
    const { id } = await api().submitRun();
    for (const to of ["queued", "scheduling", "running", "evaluating", "succeeded"])
      expect(await transition(id, `to-${to}`, to)).toEqual({ applied: true, state: to });
    expect(await transition(id, "to-running", "running")).toEqual({ applied: true, state: "succeeded" });
    expect(await transition(id, "again", "running")).toEqual({ applied: false, state: "succeeded" });
    const { items } = await api().ok<Page<RunEvent>>("GET", `/v1/runs/${id}/events`);
    expect(items.map(({ sequence, from, to }) => [sequence, from, to])).toEqual([
      [1, null, "validating"],
      [2, "validating", "queued"],
      [3, "queued", "scheduling"],
      [4, "scheduling", "running"],
      [5, "running", "evaluating"],
      [6, "evaluating", "succeeded"],
    ]);
    const run = await api().ok<Run>("GET", `/v1/runs/${id}`);
    expect(run.startedAt).not.toBeNull();
    expect(run.endedAt).not.toBeNull();
  });

  test("reports are written once, however often they come", async () => {
    const { id } = await api().submitRun();
    const time = "2026-01-01T00:00:00.000Z";
    const metric = (step: number) => ({
      step,
      attempt: 1,
      time,
      loss: 1 / step,
      learningRate: 1e-4,
      gradientNorm: 1,
      tokens: 512,
      seconds: 0.5,
      memoryBytes: 1e9,
    });
    const checkpoint = {
      runId: id,
      step: 2,
      attempt: 1,
      key: `runs/${id}/checkpoints/step-00000002`,
      sizeBytes: 10,
      manifestSha256: "a".repeat(64),
      isBest: true,
      scores: null,
      createdAt: time,
    };
    const progress = { step: 2, totalSteps: 30, epoch: 0.2, loss: 0.5, tokensPerSecond: 1000, remainingSeconds: 60 };
    const event = {
      key: "saved-2",
      time,
      actor: "controller",
      type: "checkpoint.saved",
      from: null,
      to: null,
      reason: "step-finished",
      message: "saved",
      attempt: 1,
      step: 2,
    };
    const batch = {
      progress,
      metrics: [metric(1), metric(2)],
      checkpoints: [checkpoint],
      events: [event],
      scores: { before: { "f1@0.5": 12.5 } },
    };
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, batch);
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, batch);
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, { metrics: [metric(3)] });
    const metrics = await api().ok<Page<StepMetric>>("GET", `/v1/runs/${id}/metrics`);
    expect(metrics.items.map(({ step }) => step)).toEqual([1, 2, 3]);
    expect(new Set(metrics.items.map(({ sequence }) => sequence)).size).toBe(3);
    expect((await api().ok<Page<unknown>>("GET", `/v1/runs/${id}/checkpoints`)).items).toEqual([checkpoint]);
    expect(
      (await api().ok<Page<RunEvent>>("GET", `/v1/runs/${id}/events`)).items.filter(
        ({ type }) => type === "checkpoint.saved",
      ),
    ).toHaveLength(1);
    expect(await api().ok("GET", `/v1/runs/${id}`)).toMatchObject({
      progress,
      scores: { before: { "f1@0.5": 12.5 }, after: null },
    });
  });

  test("attempts are put by their epoch and read with the run", async () => {
    const { id } = await api().submitRun();
    const attempt = {
      epoch: 1,
      state: "running",
      failureClass: null,
      message: null,
      exitCode: null,
      fromStep: 0,
      lastStep: 0,
      microBatchSize: 1,
      startedAt: "2026-01-01T00:00:00.000Z",
      endedAt: null,
    };
    await api().ok("PUT", `/internal/v1/runs/${id}/attempts/1`, attempt);
    const ended = {
      ...attempt,
      state: "failed",
      failureClass: "out-of-memory",
      exitCode: 71,
      lastStep: 7,
      endedAt: "2026-01-01T00:01:00.000Z",
    };
    await api().ok("PUT", `/internal/v1/runs/${id}/attempts/1`, ended);
    expect((await api().ok<Run>("GET", `/v1/runs/${id}`)).attempts).toEqual([ended]);
    expect(
      await api().ok<{ attempts: unknown[]; datasetVersion: number }>("GET", `/internal/v1/runs/${id}`),
    ).toMatchObject({ attempts: [ended], datasetVersion: 1 });
  });

  test("a run that is resized has the plan of so many GPUs, its steps as before, and its workflow is told", async () => {
    const { id } = await api().submitRun();
    const before = await api().ok<Run>("GET", `/v1/runs/${id}`);
    for (const to of ["queued", "scheduling", "running"]) await transition(id, `to-${to}`, to);
    const resized = await api().ok<Run>("POST", `/v1/runs/${id}/resize`, { gpus: 4 });
    expect(resized).toMatchObject({
      state: "running",
      reason: "resize-requested",
      message: expect.stringMatching(/^Resizing from 1 to 4 GPUs: the next attempt has 4, /) as string,
      spec: { resources: { gpus: 4 }, training: before.spec.training },
      plan: { layout: { gpus: 4, dataParallel: 4 }, steps: before.plan.steps },
    });
    expect(resized.plan.digest).not.toBe(before.plan.digest);
    expect(await api().ok("GET", `/v1/runs/${id}/plan`)).toEqual(resized.plan);
    const again = await api().ok<Run>("POST", `/v1/runs/${id}/resize`, { gpus: 4 });
    expect(again.etag).toBe(resized.etag);
    await vi.waitFor(() =>
      expect(api().workflows.signals.filter(({ workflowId }) => workflowId === id)).toEqual([
        { workflowId: id, signal: "resize" },
      ]),
    );
  });

  test("a resize that no layout allows is refused with the reason, and so is one of a run that is over", async () => {
    const { id } = await api().submitRun();
    expect(await api().refused("POST", `/v1/runs/${id}/resize`, { body: { gpus: 7 } })).toMatchObject({
      status: 422,
      code: "plan_refused",
      errors: [{ path: "training.globalBatchSize", code: "batch_does_not_divide" }],
    });
    expect(await api().refused("POST", `/v1/runs/${id}/resize`, { body: { gpus: 0 } })).toMatchObject({
      errors: [{ path: "gpus" }],
    });
    expect(await api().refused("POST", `/v1/runs/${id}/resize`, { body: {} })).toMatchObject({
      errors: [{ path: "gpus" }],
    });
    await transition(id, "f", "failed", "bad-data");
    expect(await api().refused("POST", `/v1/runs/${id}/resize`, { body: { gpus: 2 } })).toMatchObject({
      status: 409,
      code: "run_is_over",
    });
  });

  test("pause, resume and cancel change the state and signal the workflow in order", async () => {
    const { id } = await api().submitRun();
    await transition(id, "q", "queued");
    await transition(id, "s", "scheduling");
    await transition(id, "r", "running");
    expect(await api().ok("POST", `/v1/runs/${id}/pause`, {})).toMatchObject({
      state: "pausing",
      reason: "pause-requested",
    });
    expect(await api().ok("POST", `/v1/runs/${id}/pause`)).toMatchObject({ state: "pausing" });
    await transition(id, "p", "paused", "paused-after-checkpoint");
    expect(await api().ok("POST", `/v1/runs/${id}/resume`)).toMatchObject({
      state: "queued",
      reason: "resume-requested",
    });
    expect(await api().ok("POST", `/v1/runs/${id}/cancel`)).toMatchObject({ reason: "cancel-requested" });
    await vi.waitFor(() =>
      expect(
        api()
          .workflows.signals.filter(({ workflowId }) => workflowId === id)
          .map(({ signal }) => signal),
      ).toEqual(["pause", "resume", "cancel"]),
    );
    await transition(id, "c", "cancelled", "cancel-requested");
    const problem = await api().refused("POST", `/v1/runs/${id}/pause`);
    expect(problem).toMatchObject({ status: 409, code: "run_is_over" });
    expect(problem.detail).toContain("been cancelled");
  });

  test("a list is filtered, and its pages hold every run once while new ones arrive", async () => {
    const dataset = await api().readyDataset();
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) ids.unshift((await api().submitRun({ dataset, name: "paged" })).id);
    const first = await api().ok<Page<RunSummary>>("GET", "/v1/runs?name=paged&limit=2");
    await api().submitRun({ dataset, name: "paged" });
    const second = await api().ok<Page<RunSummary>>("GET", `/v1/runs?name=paged&limit=2&cursor=${first.nextCursor}`);
    const third = await api().ok<Page<RunSummary>>("GET", `/v1/runs?name=paged&limit=2&cursor=${second.nextCursor}`);
    expect([...first.items, ...second.items, ...third.items].map(({ id }) => id)).toEqual(ids);
    expect(third.nextCursor).toBeNull();
    await transition(ids[0]!, "q", "queued");
    expect(
      (await api().ok<Page<RunSummary>>("GET", `/v1/runs?dataset=${dataset}&state=queued,paused`)).items.map(
        ({ id }) => id,
      ),
    ).toEqual([ids[0]]);
    expect(await api().refused("GET", "/v1/runs?cursor=nonsense")).toMatchObject({
      status: 400,
      code: "invalid_cursor",
      errors: [{ path: "cursor" }],
    });
  });
});
