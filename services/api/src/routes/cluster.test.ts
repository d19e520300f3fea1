import type { AcceleratorCapacity, ClusterNode, Plan, Queue, Run, RunEvent } from "@drydock/spec";
import { expect, test } from "vitest";
import { aSpec, onEachDatabase, useApi } from "../../test/support/api.ts";
import type { Page } from "../pages.ts";

const h100 = "nvidia-h100-80gb";
const resources = { accelerator: h100, gpus: 8 };

function node(name: string, changes: Partial<ClusterNode> = {}): ClusterNode {
  return {
    name,
    isReady: true,
    accelerator: h100,
    gpus: { total: 8, free: 8 },
    heldByOthers: 0,
    rack: "rack-1",
    block: null,
    taints: [],
    unusable: null,
    runs: [],
    ...changes,
  };
}

onEachDatabase("nodes, queues and who waits", (location) => {
  const api = useApi(location);

  const report = async (nodes: ClusterNode[], queues: object[] = []) =>
    await api().ok<{ waiting: { runId: string; priority: string }[] }>("PUT", "/internal/v1/cluster", {
      backend: "kubernetes",
      nodes,
      queues,
    });
  const transition = async (id: string, to: string, message = `now ${to}`) =>
    await api().ok("POST", `/internal/v1/runs/${id}/transitions`, {
      key: `to-${to}`,
      to,
      reason: to === "queued" ? "waiting-for-capacity" : "worker-joined",
      message,
    });
  const submitTo = async (state: "queued" | "running", changes: object = {}): Promise<string> => {
    const { id } = await api().submitRun({ resources, training: { maxSteps: 400 }, ...changes });
    await transition(id, "queued");
    if (state === "running") for (const to of ["scheduling", "running"]) await transition(id, to);
    api().services.forecasts.forget();
    return id;
  };
  /** Steps of exactly two seconds. */
  const takeSteps = async (id: string, count: number) =>
    await api().ok("POST", `/internal/v1/runs/${id}/reports`, {
      progress: { step: count, totalSteps: 400, epoch: 0, loss: 1, tokensPerSecond: 1, remainingSeconds: null },
      metrics: Array.from({ length: count }, (_, index) => ({
        step: index + 1,
        attempt: 1,
        time: "2026-11-23T14:00:00.000Z",
        loss: 1,
        learningRate: 1e-4,
        gradientNorm: 1,
        tokens: 100,
        seconds: 2,
        memoryBytes: 1,
      })),
    });
  const end = async (...ids: string[]) => {
    for (const id of ids) await transition(id, "failed");
    api().services.forecasts.forget();
  };

  test("before a controller has said what there is, a waiting run says so and promises nothing", async () => {
    expect(await api().ok("GET", "/v1/nodes")).toEqual({ items: [], nextCursor: null, reportedAt: null });
    const id = await submitTo("queued");
    const run = await api().ok<Run>("GET", `/v1/runs/${id}`);
    expect(run.waiting).toMatchObject({
      ahead: [],
      estimate: { startsAt: null, basis: "no controller has said yet what the cluster has" },
    });
    await end(id);
  });

  test("nodes and capacity are what the controller said last", async () => {
    const cordoned = { taints: [{ key: "node.kubernetes.io/unschedulable", value: null, effect: "NoSchedule" }] };
    await report([node("old")]);
    await report([
      node("b", { gpus: { total: 8, free: 3 }, heldByOthers: 2 }),
      node("a", { ...cordoned, unusable: "it is cordoned" }),
      node("l", { accelerator: "nvidia-l4-24gb", gpus: { total: 4, free: 4 } }),
    ]);
    const first = await api().ok<Page<ClusterNode>>("GET", "/v1/nodes?limit=2");
    expect(first.items.map(({ name, unusable }) => [name, unusable])).toEqual([
      ["a", "it is cordoned"],
      ["b", null],
    ]);
    const second = await api().ok<Page<ClusterNode>>("GET", `/v1/nodes?limit=2&cursor=${first.nextCursor}`);
    expect([second.items.map(({ name }) => name), second.nextCursor]).toEqual([["l"], null]);
    const only = await api().ok<Page<ClusterNode>>("GET", "/v1/nodes?accelerator=nvidia-l4-24gb");
    expect(only.items.map(({ name }) => name)).toEqual(["l"]);
    api().services.forecasts.forget();
    const { items } = await api().ok<{ items: AcceleratorCapacity[] }>("GET", "/v1/capacity");
    expect(items[0]).toEqual({
      accelerator: h100,
      nodes: 2,
      usableNodes: 1,
      gpus: { total: 16, usable: 8, free: 3, freeOnOneNode: 3, heldByOthers: 2 },
      waiting: { runs: 0, gpus: 0 },
    });
  });

  test("a waiting run says what it needs, what is free, who is ahead, when it starts and what that follows from", async () => {
    const running = await submitTo("running", { resources: { accelerator: h100, gpus: 4 }, name: "holder" });
    await api().ok("PUT", `/internal/v1/runs/${running}/attempts/1`, {
      epoch: 1,
      state: "running",
      failureClass: null,
      message: null,
      exitCode: null,
      fromStep: 0,
      lastStep: 0,
      microBatchSize: 1,
      startedAt: "2026-11-23T14:00:00.000Z",
      endedAt: null,
    });
    await takeSteps(running, 100);
    await report([node("a", { gpus: { total: 8, free: 4 }, runs: [{ runId: running, gpus: 4 }] })]);
    const first = await submitTo("queued", { name: "first" });
    const second = await submitTo("queued", { name: "second" });
    const run = await api().ok<Run>("GET", `/v1/runs/${first}`);
    expect(run.waiting?.sentence).toMatch(
      /^needs 8 × NVIDIA H100 80 GB; 4 free; 0 runs ahead in queue "default"; likely starts \S+ UTC: run holder \(run_\S+\) ends then by its own pace, measured over 100 steps$/,
    );
    // 300 steps of 2 s are left: 600 s, less or more 5 %.
    const { earliest, expected, latest } = run.waiting!.estimate.startsAt!;
    const minutesFromNow = (time: string) => (Date.parse(time) - Date.now()) / 60_000;
    expect(Math.abs(minutesFromNow(expected) - 10)).toBeLessThanOrEqual(1.5);
    expect(Date.parse(earliest)).toBeLessThan(Date.parse(expected));
    expect(Date.parse(expected)).toBeLessThan(Date.parse(latest));
    expect(Date.parse(run.waiting!.since)).toBeLessThanOrEqual(Date.now());
    const behind = await api().ok<Run>("GET", `/v1/runs/${second}`);
    expect(behind.waiting?.ahead).toEqual([{ runId: first, name: "first", priority: "normal" }]);
    const listed = await api().ok<Page<Run>>("GET", "/v1/runs?state=queued");
    expect(listed.items.map(({ waiting }) => waiting?.aheadTotal)).toEqual([1, 0]);

    const { items } = await api().ok<{ items: Queue[] }>("GET", "/v1/queues");
    const queue = items.find(({ name }) => name === "default");
    expect(queue?.waiting.map(({ runId, position, gpus }) => [runId, position, gpus])).toEqual([
      [first, 1, 8],
      [second, 2, 8],
    ]);
    expect(queue?.running).toMatchObject([{ runId: running, gpus: 4, secondsLeft: { expected: 600 } }]);

    const plan = await api().ok<Plan>("POST", "/v1/plans", aSpec({ dataset: run.spec.dataset, resources }));
    expect(plan.queueWait.basis).toContain('2 runs ahead in queue "default"');
    expect(plan.queueWait.expectedSeconds).toBeGreaterThan(600);
    await end(running, first, second);
  });

  test("the answer about a waiting run has a new ETag when what it says changes, and a guard with it still holds", async () => {
    await report([node("a", { gpus: { total: 8, free: 0 } })]);
    const id = await submitTo("queued");
    const before = await api().send("GET", `/v1/runs/${id}`);
    await report([node("a", { gpus: { total: 8, free: 2 } })]);
    api().services.forecasts.forget();
    const etag = String(before.headers.etag);
    const after = await api().send("GET", `/v1/runs/${id}`, { headers: { "if-none-match": etag } });
    expect(after.statusCode).toBe(200);
    expect(after.json<Run>().waiting?.sentence).toContain("2 free");
    const changed = await api().send("PATCH", `/v1/runs/${id}`, {
      body: { priority: "low" },
      headers: { "if-match": etag },
    });
    expect(changed.statusCode).toBe(200);
    await end(id);
  });

  const quota = (gpus: number, used = 0) => [
    { accelerator: h100, gpus, mayBorrow: 0, used, borrowed: 0, borrowingLimit: null },
  ];
  const queueNamed = (name: string, changes: object = {}) => ({
    name,
    quotas: [],
    stopped: null,
    order: [],
    ...changes,
  });

  test("a run that its queue's quota can never hold is refused, and one that is there already says so", async () => {
    await report([node("a")], [queueNamed("small", { quotas: quota(8) })]);
    const id = await submitTo("queued", { queue: "small" });
    await report([node("a")], [queueNamed("small", { quotas: quota(4) })]);
    api().services.forecasts.forget();
    const never =
      'queue "small" may use 4 NVIDIA H100 80 GB at most, borrowed ones included, and the run needs 8: raise the quota or resize the run';
    const { waiting, spec } = await api().ok<Run>("GET", `/v1/runs/${id}`);
    expect(waiting?.sentence).toContain(never);
    const again = aSpec({ dataset: spec.dataset, resources, queue: "small" });
    const plan = await api().ok<Plan>("POST", "/v1/plans", again);
    expect(plan.refusals).toEqual([{ code: "quota_never_fits", path: "resources", message: never }]);
    expect(await api().refused("POST", "/v1/runs", { body: again })).toMatchObject({
      status: 422,
      code: "plan_refused",
      detail: `resources: ${never}`,
    });
    const { items } = await api().ok<{ items: Queue[] }>("GET", "/v1/queues");
    expect(items.find(({ name }) => name === "small")?.quotas).toEqual(quota(4));
    await end(id);
  });

  test("a queue of Kueue tells its ClusterQueue; one that is stopped warns, one that is not there refuses", async () => {
    const clusterQueue = {
      name: "drydock-default",
      cohort: "drydock",
      pendingWorkloads: 2,
      admittedWorkloads: 1,
      fairShareWeight: 1,
      weightedShare: null,
    };
    const listed = queueNamed("default", { quotas: quota(8, 8), clusterQueue, stopped: "its LocalQueue is on hold" });
    const unlistedQueues = "there is no LocalQueue of its name in namespace runs: make one, or use default";
    await api().ok("PUT", "/internal/v1/cluster", {
      backend: "kubernetes",
      nodes: [node("a")],
      queues: [listed],
      unlistedQueues,
    });
    api().services.forecasts.forget();
    const { items } = await api().ok<{ items: Queue[] }>("GET", "/v1/queues");
    expect(items.find(({ name }) => name === "default")).toMatchObject({
      clusterQueue,
      stopped: "its LocalQueue is on hold",
    });
    const planIn = async (queue: string) => await api().ok<Plan>("POST", "/v1/plans", aSpec({ resources, queue }));
    expect((await planIn("default")).warnings).toContainEqual({
      code: "queue_stopped",
      path: "queue",
      message: 'queue "default" admits nobody: its LocalQueue is on hold',
    });
    expect((await planIn("nobody")).refusals).toContainEqual({
      code: "queue_not_there",
      path: "queue",
      message: `queue "nobody" admits nobody: ${unlistedQueues}`,
    });
    await report([node("a")]);
    api().services.forecasts.forget();
  });

  test("a run that the cluster holds back says in the cluster's words why, and its priority may be changed", async () => {
    await report([node("a", { gpus: { total: 8, free: 0 } })]);
    const id = await submitTo("queued");
    await api().ok("POST", `/internal/v1/runs/${id}/transitions`, {
      key: "1-waiting",
      to: "scheduling",
      reason: "waiting-in-queue",
      message: "waits in its queue: insufficient unused quota",
    });
    api().services.forecasts.forget();
    const { waiting } = await api().ok<Run>("GET", `/v1/runs/${id}`);
    expect(waiting?.sentence).toContain("; the cluster says: it waits in its queue: insufficient unused quota");
    const changed = await api().send("PATCH", `/v1/runs/${id}`, { body: { priority: "high" } });
    expect(changed.json<Run>()).toMatchObject({ spec: { priority: "high" }, state: "scheduling" });
    expect((await report([node("a")])).waiting).toEqual([{ runId: id, queue: "default", priority: "high" }]);
    await end(id);
  });

  test("a new priority is an event, changes the order, and is told to the controller", async () => {
    await report([node("a", { gpus: { total: 8, free: 0 } })]);
    const [first, second] = [await submitTo("queued"), await submitTo("queued")];
    const changed = await api().send("PATCH", `/v1/runs/${second}`, { body: { priority: "high" } });
    expect(changed.json<Run>()).toMatchObject({ spec: { priority: "high" }, waiting: { aheadTotal: 0 } });
    expect((await api().ok<Run>("GET", `/v1/runs/${first}`)).waiting?.ahead).toMatchObject([{ runId: second }]);
    const { items } = await api().ok<Page<RunEvent>>("GET", `/v1/runs/${second}/events`);
    expect(items.at(-1)).toMatchObject({
      type: "priority.changed",
      from: "queued",
      to: "queued",
      reason: "priority-changed",
      message: "Priority normal → high.",
    });
    const { waiting } = await report([node("a")]);
    expect(waiting).toEqual([
      { runId: first, queue: "default", priority: "normal" },
      { runId: second, queue: "default", priority: "high" },
    ]);
    await end(first, second);
  });

  test("a priority is refused where it decides nothing, when it is none, and on a run that changed", async () => {
    const running = await submitTo("running");
    const refuse = async (id: string, body: object, headers = {}) =>
      await api().refused("PATCH", `/v1/runs/${id}`, { body, headers });
    expect(await refuse(running, { priority: "high" })).toMatchObject({
      status: 409,
      code: "run_not_waiting",
      detail: `run ${running} is running, and a priority decides who starts first: pause the run, change its priority, and resume it`,
    });
    const queued = await submitTo("queued");
    expect(await refuse(queued, { priority: "urgent" })).toMatchObject({ errors: [{ path: "priority" }] });
    expect(await refuse(queued, { priority: "low" }, { "if-match": '"1.0"' })).toMatchObject({ code: "run_changed" });
    await end(running, queued);
    expect(await refuse(queued, { priority: "low" })).toMatchObject({ status: 409, code: "run_is_over" });
    expect(await refuse("run_none", { priority: "low" })).toMatchObject({ status: 404, code: "run_not_found" });
  });
});
