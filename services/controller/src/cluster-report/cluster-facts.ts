import type { ClusterNode, ClusterReport, ClusterReportAnswer, QueueFacts } from "@drydock/spec";

/** Where what is told of the cluster comes from: the nodes and queues of Kubernetes, or this computer. */
export interface ClusterFacts {
  readonly backend: ClusterReport["backend"];
  /** All nodes on which ranks could run, unusable ones with the reason. From a cache: it is asked every few seconds. */
  nodes(): Promise<ClusterNode[]>;
  /** Queues with quotas or an order of their own; others are known from the runs. */
  queues(): Promise<QueueFacts[]>;
  /** Why a queue that is not among these admits nobody; null: any name is a queue. */
  unlistedQueues(): string | null;
  /** Hears which runs wait and with which priority now, after each report. */
  onWaiting(waiting: ClusterReportAnswer["waiting"]): void;
}
