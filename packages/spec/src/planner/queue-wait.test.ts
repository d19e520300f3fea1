import { expect, test } from "vitest";
import type { ClusterNode, QueueFacts } from "../contract/cluster.ts";
import { explainWait, forecastWaits, plannedWait, type OpenWork } from "./queue-wait.ts";

const h100 = "nvidia-h100-80gb";
const now = new Date("2026-11-23T14:00:00Z");

function node(name: string, total: number, free: number, changes: Partial<ClusterNode> = {}): ClusterNode {
  const facts = { isReady: true, accelerator: h100, rack: null, block: null, taints: [], unusable: null, runs: [] };
  return { name, gpus: { total, free }, heldByOthers: 0, ...facts, ...changes };
}

function work(runId: string, gpus: number, minutes: number | null, changes: Partial<OpenWork> = {}): OpenWork {
  const seconds = minutes === null ? null : { low: minutes * 50, expected: minutes * 60, high: minutes * 75 };
  return {
    runId,
    name: `name-${runId}`,
    queue: "default",
    priority: "normal",
    accelerator: h100,
    pods: 1,
    gpusPerPod: gpus,
    left: { seconds, basis: minutes === null ? "no pace is measured yet" : "by its own pace, measured over 120 steps" },
    ...changes,
  };
}

const cluster = (nodes: ClusterNode[], queues: QueueFacts[] = []) => ({ nodes, queues });
const quota = (gpus: number, mayBorrow: number, used: number) => ({
  accelerator: h100,
  gpus,
  mayBorrow,
  used,
  borrowed: 0,
  borrowingLimit: null,
});
const queue = (changes: Partial<QueueFacts>): QueueFacts => ({
  name: "default",
  quotas: [],
  stopped: null,
  order: [],
  clusterQueue: null,
  ...changes,
});

test("a run that fits now starts now", () => {
  const forecast = forecastWaits({ cluster: cluster([node("a", 8, 8)]), running: [], waiting: [work("run_1", 8, 10)] });
  expect(forecast.get("run_1")).toMatchObject({
    seconds: { low: 0, expected: 0, high: 0 },
    basis: "8 × NVIDIA H100 80 GB on one node are free now",
  });
});

test("a run waits for the end of the run that makes its room, within that run's own range", () => {
  // 5 of 8 are free; run_1 holds 3 for another 60 min: 50 at the least (3,000 s), 75 at the most (4,500 s).
  const input = {
    cluster: cluster([node("a", 8, 5, { runs: [{ runId: "run_1", gpus: 3 }] })]),
    running: [work("run_1", 3, 60)],
    waiting: [work("run_2", 8, 10)],
  };
  const forecast = forecastWaits(input).get("run_2")!;
  expect(forecast.seconds).toEqual({ low: 3000, expected: 3600, high: 4500 });
  expect(explainWait(input.waiting[0]!, forecast, input.cluster, now)).toBe(
    'needs 8 × NVIDIA H100 80 GB on one node; 5 free; 0 runs ahead in queue "default"; likely starts 14:50–15:15 UTC: run name-run_1 (run_1) ends then by its own pace, measured over 120 steps',
  );
});

test("who is ahead runs first, and its time is added", () => {
  // run_1 ends after 60 min; run_2 (ahead) takes 10 min; then run_3: 50 + 8⅓ min, 60 + 10, 75 + 12½.
  const forecast = forecastWaits({
    cluster: cluster([node("a", 8, 0)]),
    running: [work("run_1", 8, 60)],
    waiting: [work("run_3", 8, 5), work("run_2", 8, 10)],
  }).get("run_3")!;
  expect(forecast.seconds).toEqual({ low: 3500, expected: 4200, high: 5250 });
  expect(forecast.ahead.map(({ runId }) => runId)).toEqual(["run_2"]);
});

test("priority goes before age, and the cluster's own order before both", () => {
  const waiting = [work("run_2", 8, 10), work("run_3", 8, 10, { priority: "high" })];
  const input = { cluster: cluster([node("a", 8, 0)]), running: [work("run_1", 8, 60)], waiting };
  expect(
    forecastWaits(input)
      .get("run_2")
      ?.ahead.map(({ runId }) => runId),
  ).toEqual(["run_3"]);
  const told = { ...input, cluster: cluster([node("a", 8, 0)], [queue({ order: ["run_2", "run_3"] })]) };
  expect(
    forecastWaits(told)
      .get("run_3")
      ?.ahead.map(({ runId }) => runId),
  ).toEqual(["run_2"]);
});

test("a gang waits until all of its pods have a node", () => {
  // Two nodes of 8: run_1 frees the first after 10 min, run_2 the second after 30 min. 2 × 8 need both.
  const forecast = forecastWaits({
    cluster: cluster([
      node("a", 8, 0, { runs: [{ runId: "run_1", gpus: 8 }] }),
      node("b", 8, 0, { runs: [{ runId: "run_2", gpus: 8 }] }),
    ]),
    running: [work("run_1", 8, 10), work("run_2", 8, 30)],
    waiting: [work("run_3", 8, 5, { pods: 2 })],
  }).get("run_3")!;
  expect(forecast.seconds?.expected).toBe(1800);
  expect(forecast.basis).toContain("run name-run_2 (run_2) ends then");
});

test("free GPUs on several nodes are not 8 on one", () => {
  const input = {
    cluster: cluster([
      node("a", 8, 5, { runs: [{ runId: "run_1", gpus: 3 }] }),
      node("b", 8, 4, { runs: [{ runId: "run_9", gpus: 4 }] }),
    ]),
    running: [work("run_1", 3, 60), work("run_9", 4, 20)],
    waiting: [work("run_2", 8, 10)],
  };
  const forecast = forecastWaits(input).get("run_2")!;
  expect(forecast.seconds?.expected).toBe(1200);
  expect(explainWait(input.waiting[0]!, forecast, input.cluster, now)).toContain("9 free, at most 5 on one node");
});

test("nobody overtakes a larger run that waits for the same accelerator, but runs on others do", () => {
  const forecast = forecastWaits({
    cluster: cluster([
      node("a", 8, 4, { runs: [{ runId: "run_1", gpus: 4 }] }),
      node("l", 4, 4, { accelerator: "nvidia-l4-24gb" }),
    ]),
    running: [work("run_1", 4, 60)],
    waiting: [work("run_2", 8, 10), work("run_3", 1, 10), work("run_4", 1, 10, { accelerator: "nvidia-l4-24gb" })],
  });
  expect(forecast.get("run_3")?.seconds?.expected).toBe(4200);
  expect(forecast.get("run_4")?.seconds?.expected).toBe(0);
});

test("a queue whose quota is used up waits for its own runs and lets other queues by", () => {
  const quotas = [quota(4, 0, 4)];
  const forecast = forecastWaits({
    cluster: cluster([node("a", 16, 12)], [queue({ name: "small", quotas })]),
    running: [work("run_1", 4, 30, { queue: "small" })],
    waiting: [work("run_2", 4, 10, { queue: "small" }), work("run_3", 8, 10)],
  });
  expect(forecast.get("run_2")?.seconds?.expected).toBe(1800);
  expect(forecast.get("run_3")?.seconds?.expected).toBe(0);
});

test.each<[string, ReturnType<typeof cluster> | null, OpenWork[], OpenWork, string]>([
  ["no cluster is told of", null, [], work("run_2", 8, 10), "no controller has said yet what the cluster has"],
  [
    "no node has the accelerator",
    cluster([node("l", 4, 4, { accelerator: "nvidia-l4-24gb" })]),
    [],
    work("run_2", 8, 10),
    "no node has NVIDIA H100 80 GB: add one, or plan the run for another accelerator",
  ],
  [
    "no node has GPUs",
    cluster([node("processors", 0, 0, { accelerator: null })]),
    [],
    work("run_2", 8, 10),
    'no node of the cluster has GPUs: add one with NVIDIA H100 80 GB, or plan the run with resources.accelerator "cpu"',
  ],
  [
    "there are no nodes",
    cluster([]),
    [],
    work("run_2", 8, 10),
    'no node of the cluster has GPUs: add one with NVIDIA H100 80 GB, or plan the run with resources.accelerator "cpu"',
  ],
  [
    "the only node is drained",
    cluster([node("a", 8, 8, { unusable: "it is cordoned" })]),
    [],
    work("run_2", 8, 10),
    "the 0 usable nodes with NVIDIA H100 80 GB cannot hold 8 × NVIDIA H100 80 GB on one node even when empty; a: it is cordoned",
  ],
  [
    "the quota can never fit it",
    cluster([node("a", 8, 8)], [queue({ quotas: [quota(2, 2, 0)] })]),
    [],
    work("run_2", 8, 10),
    'queue "default" may use 4 NVIDIA H100 80 GB at most, borrowed ones included, and the run needs 8: raise the quota or resize the run',
  ],
  [
    "the end of who holds the room is not known",
    cluster([node("a", 8, 0)]),
    [work("run_1", 8, null)],
    work("run_2", 8, 10),
    "the end of run name-run_1 (run_1) is not known: no pace is measured yet",
  ],
  [
    "the room is held by a stranger",
    cluster([node("a", 8, 0)]),
    [],
    work("run_2", 8, 10),
    "the GPUs are held by something else, whose end is not known",
  ],
])("nothing is promised when %s", (_name, facts, running, waiting, basis) => {
  const forecast = forecastWaits({ cluster: facts, running, waiting: [waiting] }).get(waiting.runId);
  expect(forecast).toMatchObject({ seconds: null, basis });
});

test("a run that started since the cluster was looked at holds its GPUs", () => {
  const forecast = forecastWaits({
    cluster: cluster([node("a", 8, 8)]),
    running: [work("run_1", 8, 60)],
    waiting: [work("run_2", 8, 10)],
  });
  expect(forecast.get("run_2")?.seconds?.expected).toBe(3600);
});

test("a plan says the wait that its run would have, behind who waits already", () => {
  const input = {
    cluster: cluster([node("a", 8, 0)]),
    running: [work("run_1", 8, 60)],
    waiting: [work("run_2", 8, 10)],
  };
  expect(plannedWait(work("run_9", 8, 5), input)).toEqual({
    expectedSeconds: 4200,
    seconds: { low: 3500, expected: 4200, high: 5250 },
    basis:
      'run name-run_2 (run_2) ends then by its own pace, measured over 120 steps (58 min to 88 min); 1 run ahead in queue "default"',
  });
});

test("a thousand runs in front of a thousand nodes are forecast at once", () => {
  const nodes = Array.from({ length: 1000 }, (_, index) => node(`n${index}`, 8, 0));
  const running = Array.from({ length: 1000 }, (_, index) => work(`run_a${index}`, 8, index + 1));
  const waiting = Array.from({ length: 1500 }, (_, index) => work(`run_b${String(index).padStart(4, "0")}`, 8, 10));
  const forecast = forecastWaits({ cluster: cluster(nodes), running, waiting });
  expect(forecast.get("run_b0000")?.seconds?.expected).toBe(60);
  expect(forecast.get("run_b1400")).toMatchObject({
    seconds: null,
    aheadTotal: 1400,
    basis: "more than 1000 runs are ahead",
  });
});
