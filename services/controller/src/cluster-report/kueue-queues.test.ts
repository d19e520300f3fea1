import { createLogger, ForbiddenError } from "@drydock/kit";
import { expect, test } from "vitest";
import type { KubeApi } from "../kubernetes/kube-api.ts";
import type { ClusterQueueObject, KueueState, LocalQueueObject } from "./kueue-objects.ts";
import { kueueQueueFacts, KueueQueues } from "./kueue-queues.ts";
import { KueueQuotas } from "./kueue-quotas.ts";
import { OtherPods } from "./other-pods.ts";

const h100 = "nvidia-h100-80gb";
const products = { [h100]: ["NVIDIA-H100-80GB-HBM3"] };
const flavors = [
  { metadata: { name: "hopper" }, spec: { nodeLabels: { "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3" } } },
];

interface Quota {
  readonly nominal: number;
  readonly borrowingLimit?: number;
  readonly lendingLimit?: number;
}

function quotas({ nominal, ...limits }: Quota) {
  const resource = { name: "nvidia.com/gpu", nominalQuota: String(nominal), ...limits };
  return { resourceGroups: [{ flavors: [{ name: "hopper", resources: [resource] }] }] };
}

function clusterQueue(name: string, quota: Quota, change: Partial<ClusterQueueObject> = {}): ClusterQueueObject {
  return { metadata: { name }, ...change, spec: { ...quotas(quota), ...change.spec } };
}

function localQueue(name: string, to: string, change: Partial<LocalQueueObject> = {}): LocalQueueObject {
  return { metadata: { name }, ...change, spec: { clusterQueue: to, ...change.spec } };
}

const state = (change: Partial<KueueState>): KueueState => ({
  localQueues: [localQueue("default", "main")],
  clusterQueues: [clusterQueue("main", { nominal: 24 })],
  cohorts: [],
  flavors,
  ...change,
});
const factsOf = (change: Partial<KueueState>) => kueueQueueFacts(state(change), products, [], []);

test("a queue tells its quota by accelerator, what it uses and borrows, its cohort, its share and who waits", () => {
  const main = clusterQueue(
    "main",
    { nominal: 24, borrowingLimit: 4 },
    {
      spec: { cohortName: "drydock", fairSharing: { weight: "500m" } },
      status: {
        flavorsReservation: [{ name: "hopper", resources: [{ name: "nvidia.com/gpu", total: "26", borrowed: "2" }] }],
        pendingWorkloads: 3,
        admittedWorkloads: 5,
        fairSharing: { weightedShare: 250 },
      },
    },
  );
  const other = clusterQueue("other", { nominal: 8 }, { spec: { cohortName: "drydock" } });
  expect(factsOf({ clusterQueues: [main, other] })).toEqual([
    {
      name: "default",
      quotas: [{ accelerator: h100, gpus: 24, mayBorrow: 4, used: 26, borrowed: 2, borrowingLimit: 4 }],
      stopped: null,
      order: [],
      clusterQueue: {
        name: "main",
        cohort: "drydock",
        pendingWorkloads: 3,
        admittedWorkloads: 5,
        fairShareWeight: 0.5,
        weightedShare: 250,
      },
    },
  ]);
});

test.each<[string, number, ClusterQueueObject[], KueueState["cohorts"]]>([
  ["alone it has its own", 24, [], []],
  ["what others lend is added", 32, [clusterQueue("other", { nominal: 8 }, { spec: { cohortName: "c" } })], []],
  [
    "what others keep is not",
    26,
    [clusterQueue("other", { nominal: 8, lendingLimit: 2 }, { spec: { cohortName: "c" } })],
    [],
  ],
  ["what the cohort itself has is added", 40, [], [{ metadata: { name: "c" }, spec: quotas({ nominal: 16 }) }]],
  [
    "and what the cohort's own parent lends",
    34,
    [clusterQueue("far", { nominal: 10 }, { spec: { cohortName: "top" } })],
    [{ metadata: { name: "c" }, spec: { parentName: "top" } }],
  ],
  [
    "within the cohort's own borrowing limit",
    27,
    [clusterQueue("far", { nominal: 10 }, { spec: { cohortName: "top" } })],
    [{ metadata: { name: "c" }, spec: { ...quotas({ nominal: 0, borrowingLimit: 3 }), parentName: "top" } }],
  ],
])("the most that a queue can ever have: %s", (_, most, others, cohorts) => {
  const main = clusterQueue("main", { nominal: 24 }, { spec: { cohortName: "c" } });
  expect(new KueueQuotas({ clusterQueues: [main, ...others], cohorts }).limitOf(main, "hopper")).toBe(most);
});

const inactive = (reason: string, message: string) => ({
  conditions: [{ type: "Active", status: "False", reason, message }],
});

test.each<[string, Partial<KueueState>]>([
  [
    "its ClusterQueue gone does not exist: make it, or name another one in the LocalQueue",
    { localQueues: [localQueue("default", "gone")] },
  ],
  [
    "its LocalQueue default is on hold (spec.stopPolicy)",
    { localQueues: [localQueue("default", "main", { spec: { stopPolicy: "Hold" } })] },
  ],
  [
    "its ClusterQueue main is on hold (spec.stopPolicy)",
    { clusterQueues: [clusterQueue("main", { nominal: 1 }, { spec: { stopPolicy: "HoldAndDrain" } })] },
  ],
  [
    "its ClusterQueue main is not active (FlavorNotFound): Can't admit new workloads: references missing ResourceFlavor(s): x.",
    {
      clusterQueues: [
        clusterQueue(
          "main",
          { nominal: 1 },
          {
            status: inactive("FlavorNotFound", "Can't admit new workloads: references missing ResourceFlavor(s): x."),
          },
        ),
      ],
    },
  ],
])("a queue that admits nobody says: %s", (stopped, change) => {
  expect(factsOf(change)[0]?.stopped).toBe(stopped);
});

test("runs are told in Kueue's order: priority, then age; those with quota are not among them", () => {
  const job = (run: string) => ({ metadata: { name: run, uid: `job-of-${run}`, labels: { "drydock.dev/run": run } } });
  const workload = (run: string, priority: number, minute: number, hasQuota = false) => ({
    metadata: {
      name: run,
      ownerReferences: [{ uid: `job-of-${run}` }],
      creationTimestamp: `2026-11-23T14:0${minute}:00Z`,
    },
    spec: { queueName: "default", priority },
    status: { conditions: [{ type: "QuotaReserved", status: hasQuota ? "True" : "False" }] },
  });
  const workloads = [
    workload("run_1", 1000, 3),
    workload("run_2", 1000, 1),
    workload("run_3", 10_000, 4),
    workload("run_4", 1000, 0, true),
  ];
  const jobs = ["run_1", "run_2", "run_3", "run_4"].map(job);
  expect(kueueQueueFacts(state({}), products, workloads, jobs)[0]?.order).toEqual(["run_3", "run_2", "run_1"]);
});

test("without the rights to read them nothing is told of queues and of others' pods, and nobody is refused for it", async () => {
  const api = {
    list: async () => await Promise.reject(new ForbiddenError("kube_forbidden", "cannot list clusterqueues")),
  } as unknown as KubeApi;
  const logger = createLogger("test", { DRYDOCK_LOG_LEVEL: "silent" });
  const queues = new KueueQueues({
    api,
    namespace: "runs",
    productLabels: products,
    workloads: () => [],
    jobs: () => [],
    logger,
  });
  const others = new OtherPods({ api, namespace: "runs", logger });
  await queues.connect();
  await others.connect();
  expect([queues.queues(), queues.unlistedQueues(), others.list()]).toEqual([[], null, []]);
  await queues.close();
  await others.close();
});
