import type { ClusterNode, QueueFacts } from "@drydock/spec";
import type { Gang } from "../backend/cluster-backend.ts";
import { Capacity, type Admission, type Claim, type CapacityWords } from "./capacity.ts";

/** GPUs that a queue may use, by queue and accelerator. A queue that is named may use no accelerator that is not. */
export type QueueQuotas = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** GPUs of an accelerator on usable nodes: those that runs may have, and those that others hold. */
interface Supply {
  readonly ours: number;
  readonly others: number;
}

const nothing: Supply = { ours: 0, others: 0 };

/**
 * Admission on a cluster that has no Kueue: a pool of GPUs for each accelerator; in each by priority, then age, all ranks of
 * an attempt or none, so that two gangs never hold half of what they need; no queue beyond its quota, where it has one. Runs
 * without GPUs are admitted at once. Sizes come from the nodes, less what pods that are not ours hold: until they are known
 * nobody is admitted.
 */
export class ClusterCapacity implements Admission {
  readonly #pools = new Map<string, Capacity>();
  readonly #supplies = new Map<string, Supply>();
  readonly #quotas: QueueQuotas;
  #isClosed = false;

  constructor(quotas: QueueQuotas = {}) {
    this.#quotas = quotas;
  }

  async acquire(claim: Claim, signal: AbortSignal): Promise<() => void> {
    if (claim.accelerator === null) {
      signal.throwIfAborted();
      return () => undefined;
    }
    return await this.#pool(claim.accelerator).acquire({ ...claim, slots: claim.gpus }, signal);
  }

  async holdFor<Started extends { readonly gang: Gang } | string>(
    release: () => void,
    start: () => Promise<Started>,
  ): Promise<Started> {
    return await this.#pool("").holdFor(release, start);
  }

  occupyWhile(gang: Gang): void {
    if (gang.placement?.accelerator)
      this.#pool(gang.placement.accelerator).occupyWhile(gang, gang.ranks * gang.placement.gpusPerRank);
  }

  prioritise(id: string, priority: Claim["priority"]): void {
    for (const pool of this.#pools.values()) pool.prioritise(id, priority);
  }

  close(): void {
    this.#isClosed = true;
    for (const pool of this.#pools.values()) pool.close();
  }

  /** The nodes are these from now on. Those on which nothing may start do not count, nor do GPUs that others hold. */
  resize(nodes: readonly ClusterNode[]): void {
    this.#supplies.clear();
    for (const { accelerator, gpus, heldByOthers, unusable } of nodes) {
      if (accelerator === null || unusable !== null) continue;
      const { ours, others } = this.#supply(accelerator);
      const held = Math.min(heldByOthers, gpus.total);
      this.#supplies.set(accelerator, { ours: ours + gpus.total - held, others: others + held });
    }
    for (const [accelerator, pool] of this.#pools) pool.resize(this.#supply(accelerator).ours);
  }

  /** The queues that have quotas, with what their runs hold. */
  queues(): QueueFacts[] {
    return Object.entries(this.#quotas).map(([name, quotas]) => ({
      name,
      quotas: Object.entries(quotas).map(([accelerator, gpus]) => {
        const used = this.#pools.get(accelerator)?.usedBy(name) ?? 0;
        return { accelerator, gpus, mayBorrow: 0, used, borrowed: 0, borrowingLimit: 0 };
      }),
      stopped: null,
      order: [],
      clusterQueue: null,
    }));
  }

  /** Any name is a queue: one without a quota has the nodes as its only limit. */
  unlistedQueues(): null {
    return null;
  }

  #supply(accelerator: string): Supply {
    return this.#supplies.get(accelerator) ?? nothing;
  }

  #pool(accelerator: string): Capacity {
    const known = this.#pools.get(accelerator);
    if (known) return known;
    const words = wordsFor(accelerator, () => this.#supply(accelerator).others);
    const pool = new Capacity(this.#supply(accelerator).ours, words, (queue) => {
      const quotas = this.#quotas[queue];
      return quotas === undefined ? Infinity : (quotas[accelerator] ?? 0);
    });
    if (this.#isClosed) pool.close();
    this.#pools.set(accelerator, pool);
    return pool;
  }
}

function wordsFor(accelerator: string, others: () => number): CapacityWords {
  return {
    needs: (gpus) => `${gpus} × ${accelerator}`,
    state: (busy, ours) => {
      const held = others();
      if (ours + held === 0) return `no usable node has ${accelerator}`;
      return `the cluster has ${ours + held}, ${busy} of them busy${held === 0 ? "" : ` and ${held} held by others`}`;
    },
  };
}
