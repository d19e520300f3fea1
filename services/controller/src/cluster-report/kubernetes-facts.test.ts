import { expect, test } from "vitest";
import type { PodObject } from "../kubernetes/kube-objects.ts";
import { nodesWithGpus, type NodeObject } from "./kubernetes-facts.ts";

const products = { "nvidia-h100-80gb": ["NVIDIA-H100-80GB-HBM3"] };

function node(name: string, changes: Partial<NodeObject> = {}, labels: Record<string, string> = {}): NodeObject {
  return {
    metadata: {
      name,
      labels: { "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "drydock.dev/rack": "r1", ...labels },
    },
    spec: { taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" }] },
    status: { allocatable: { "nvidia.com/gpu": "8" }, conditions: [{ type: "Ready", status: "True" }] },
    ...changes,
  };
}

function pod(runId: string, nodeName: string, gpus: number, phase = "Running"): PodObject {
  const containers = [{ resources: { limits: { "nvidia.com/gpu": String(gpus) } } }];
  return {
    metadata: { name: `${runId}-0`, labels: { "drydock.dev/run": runId } },
    spec: { nodeName, containers } as PodObject["spec"] & object,
    status: { phase },
  };
}

test("a node has what pods that are not over leave free, and says whose they are", () => {
  const pods = [pod("run_1", "a", 3), pod("run_1", "a", 2), pod("run_2", "a", 1, "Succeeded"), pod("run_3", "b", 8)];
  expect(nodesWithGpus([node("a")], pods, products)).toEqual([
    {
      name: "a",
      isReady: true,
      accelerator: "nvidia-h100-80gb",
      gpus: { total: 8, free: 3 },
      heldByOthers: 0,
      rack: "r1",
      block: null,
      taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" }],
      unusable: null,
      runs: [{ runId: "run_1", gpus: 5 }],
    },
  ]);
});

test("GPUs of pods that are no runs of ours are not free, and told as theirs", () => {
  const [found] = nodesWithGpus([node("a")], [pod("run_1", "a", 3)], products, [
    pod("team-x", "a", 2),
    pod("y", "b", 8),
  ]);
  expect(found).toMatchObject({ gpus: { total: 8, free: 3 }, heldByOthers: 2, runs: [{ runId: "run_1", gpus: 3 }] });
});

test("a node without GPUs is no place for a worker", () => {
  expect(nodesWithGpus([node("a", { status: { allocatable: {} } })], [], products)).toEqual([]);
});

const ready = { type: "Ready", status: "True" };
const allocatable = { "nvidia.com/gpu": "8" };
test.each<[string, NodeObject]>([
  ["it is cordoned", node("a", { spec: { unschedulable: true } })],
  [
    "it is not ready: Kubelet stopped posting node status.",
    node("a", {
      status: {
        allocatable,
        conditions: [{ type: "Ready", status: "Unknown", message: "Kubelet stopped posting node status." }],
      },
    }),
  ],
  [
    "it has the taint team/vision:NoSchedule, which workers do not tolerate",
    node("a", { spec: { taints: [{ key: "team/vision", effect: "NoSchedule" }] } }),
  ],
  [
    'its label nvidia.com/gpu.product is "NVIDIA-X", which no accelerator has',
    node("a", { status: { allocatable, conditions: [ready] } }, { "nvidia.com/gpu.product": "NVIDIA-X" }),
  ],
])("an unusable node says: %s", (unusable, object) => {
  expect(nodesWithGpus([object], [], products)[0]?.unusable).toBe(unusable);
});
