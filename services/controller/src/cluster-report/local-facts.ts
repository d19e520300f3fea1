import { hostname } from "node:os";
import type { ClusterNode, ClusterReportAnswer, QueueFacts } from "@drydock/spec";
import type { Capacity } from "../attempts/capacity.ts";
import type { ClusterFacts } from "./cluster-facts.ts";

/** This computer as a cluster of one node, whose worker slots are its GPUs. */
export class LocalFacts implements ClusterFacts {
  readonly backend = "local";
  readonly #capacity: Pick<Capacity, "occupancy" | "prioritise">;

  constructor(capacity: Pick<Capacity, "occupancy" | "prioritise">) {
    this.#capacity = capacity;
  }

  async nodes(): Promise<ClusterNode[]> {
    const { slots, busy, isClosed } = this.#capacity.occupancy();
    return [
      {
        name: hostname(),
        isReady: !isClosed,
        accelerator: "cpu",
        gpus: { total: slots, free: Math.max(0, slots - busy) },
        heldByOthers: 0,
        rack: null,
        block: null,
        taints: [],
        unusable: isClosed ? "the controller is closing" : null,
        runs: [],
      },
    ];
  }

  async queues(): Promise<QueueFacts[]> {
    return [];
  }

  unlistedQueues(): null {
    return null;
  }

  onWaiting(waiting: ClusterReportAnswer["waiting"]): void {
    for (const { runId, priority } of waiting) this.#capacity.prioritise(runId, priority);
  }
}
