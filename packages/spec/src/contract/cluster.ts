import { z } from "zod";
import { Range } from "./plan.ts";
import { Priority } from "./run-spec.ts";
import { RunReason, RunState } from "./run.ts";
import { RunWaiting } from "./waiting.ts";

/** A taint of a node as the cluster says it. */
export const NodeTaint = z
  .object({ key: z.string(), value: z.string().nullable(), effect: z.string() })
  .meta({ id: "NodeTaint" });

/** One machine on which ranks may run. On a computer without GPUs, `gpus` counts its worker slots. */
export const ClusterNode = z
  .object({
    name: z.string(),
    isReady: z.boolean(),
    /** Name of the accelerator's catalogue entry, `cpu` for a computer without GPUs, null when the label says nothing we know. */
    accelerator: z.string().nullable(),
    gpus: z.object({ total: z.int().nonnegative(), free: z.int().nonnegative() }),
    /** GPUs of pods that are no runs of ours, as far as the controller may see them. They are not free. */
    heldByOthers: z.int().nonnegative().default(0),
    rack: z.string().nullable(),
    block: z.string().nullable(),
    taints: z.array(NodeTaint),
    /** A sentence that says why nothing new is started here; null when something may be. */
    unusable: z.string().nullable(),
    /** Runs that hold GPUs here, as far as the cluster says. */
    runs: z.array(z.object({ runId: z.string(), gpus: z.int().positive() })),
  })
  .meta({ id: "ClusterNode" });
export type ClusterNode = z.infer<typeof ClusterNode>;

/** What a queue may use of one accelerator. */
export const QueueQuota = z
  .object({
    accelerator: z.string(),
    gpus: z.int().nonnegative(),
    /** GPUs that it may borrow from other queues beyond its own; null: as many as are free. */
    mayBorrow: z.int().nonnegative().nullable(),
    used: z.int().nonnegative(),
    /** Of `used`: beyond its own. */
    borrowed: z.int().nonnegative().default(0),
    /** Bound that the operator set to borrowing; null: what the others lend is the only one. */
    borrowingLimit: z.int().nonnegative().nullable().default(null),
  })
  .meta({ id: "QueueQuota" });
export type QueueQuota = z.infer<typeof QueueQuota>;

/** Kueue's ClusterQueue behind a queue. It may serve several queues and namespaces, and so work that is not ours. */
export const ClusterQueueFacts = z
  .object({
    name: z.string(),
    /** Queues of one cohort lend each other what they do not use; null: it shares with nobody. */
    cohort: z.string().nullable(),
    pendingWorkloads: z.int().nonnegative(),
    admittedWorkloads: z.int().nonnegative(),
    /** Weight in fair sharing: who has twice as much may borrow twice as much before it is first to give back. */
    fairShareWeight: z.number().nonnegative(),
    /** What it borrows against its weight, in thousandths of what the cohort lends; null: fair sharing is off. */
    weightedShare: z.number().nullable(),
  })
  .meta({ id: "ClusterQueueFacts" });
export type ClusterQueueFacts = z.infer<typeof ClusterQueueFacts>;

/** What the cluster says of one queue. */
export const QueueFacts = z
  .object({
    name: z.string(),
    /** None: the nodes are the only limit. */
    quotas: z.array(QueueQuota),
    /** A sentence that says why the queue admits nobody; null when it does. */
    stopped: z.string().nullable(),
    /** Runs in the order in which the queue will admit them, as far as the cluster says; empty: priority, then age. */
    order: z.array(z.string()),
    /** Null without Kueue. */
    clusterQueue: ClusterQueueFacts.nullable().default(null),
  })
  .meta({ id: "QueueFacts" });
export type QueueFacts = z.infer<typeof QueueFacts>;

/** What the controller says of the cluster, whole each time; a later one replaces an earlier one. */
export const ClusterReport = z.strictObject({
  backend: z.enum(["local", "kubernetes"]),
  nodes: z.array(ClusterNode).max(20_000),
  queues: z.array(QueueFacts).max(10_000),
  /** A sentence that says why a queue that is not among these admits nobody; null: any name is a queue. */
  unlistedQueues: z.string().nullable().default(null),
});
export type ClusterReport = z.infer<typeof ClusterReport>;

/** The answer to a cluster report: what the controller's admission must know, as it is now. */
export const ClusterReportAnswer = z.object({
  /** Runs that wait, with the priority that they have now. */
  waiting: z.array(z.object({ runId: z.string(), queue: z.string(), priority: Priority })),
});
export type ClusterReportAnswer = z.infer<typeof ClusterReportAnswer>;

/** GPUs of one kind on all nodes. */
export const AcceleratorCapacity = z
  .object({
    accelerator: z.string(),
    nodes: z.int(),
    usableNodes: z.int(),
    gpus: z.object({
      total: z.int(),
      /** On nodes where something may be started. */
      usable: z.int(),
      free: z.int(),
      /** The most that are free on one node. */
      freeOnOneNode: z.int(),
      /** On nodes where something may be started, by pods that are no runs of ours. */
      heldByOthers: z.int(),
    }),
    waiting: z.object({ runs: z.int(), gpus: z.int() }),
  })
  .meta({ id: "AcceleratorCapacity" });
export type AcceleratorCapacity = z.infer<typeof AcceleratorCapacity>;

const QueuedWork = z.object({
  runId: z.string(),
  name: z.string(),
  priority: Priority,
  state: RunState,
  reason: RunReason,
  accelerator: z.string().nullable(),
  gpus: z.int(),
});

/** One queue: what it may use, what runs and what waits in it. */
export const Queue = z
  .object({
    name: z.string(),
    depth: z.int().meta({ description: "Runs that are not over" }),
    byState: z.record(z.string(), z.int()),
    quotas: z.array(QueueQuota),
    stopped: z.string().nullable(),
    /** Null without Kueue. */
    clusterQueue: ClusterQueueFacts.nullable(),
    /** The oldest first; at most 100. */
    running: z.array(QueuedWork.extend({ secondsLeft: Range.nullable(), basis: z.string() })),
    /** In the order in which they are started, the next one first; at most 100. */
    waiting: z.array(QueuedWork.extend({ position: z.int().positive(), waiting: RunWaiting })),
  })
  .meta({ id: "Queue" });
export type Queue = z.infer<typeof Queue>;

/** Body of `PATCH /v1/runs/{runId}`: what may be changed of a run that waits. */
export const RunChange = z.strictObject({ priority: Priority }).meta({ id: "RunChange" });
export type RunChange = z.infer<typeof RunChange>;
