import type { ClusterNode } from "@drydock/spec";
import type { Gang } from "../backend/cluster-backend.ts";
import { Capacity, type Admission, type Claim, type CapacityWords } from "./capacity.ts";

/**
 * Admission on a cluster that has no Kueue: a pool of GPUs for each accelerator; in each by priority, then age, all ranks of
 * an attempt or none, so that two gangs never hold half of what they need. Runs without GPUs are admitted at once. Sizes
 * come from the nodes: until they are known nobody is admitted.
 */
export class ClusterCapacity implements Admission {
  readonly #pools = new Map<string, Capacity>();
  readonly #totals = new Map<string, number>();
  #isClosed = false;

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

  /** The nodes are these from now on. Those on which nothing may start do not count. */
  resize(nodes: readonly ClusterNode[]): void {
    this.#totals.clear();
    for (const { accelerator, gpus, unusable } of nodes)
      if (accelerator !== null && unusable === null)
        this.#totals.set(accelerator, (this.#totals.get(accelerator) ?? 0) + gpus.total);
    for (const [accelerator, pool] of this.#pools) pool.resize(this.#totals.get(accelerator) ?? 0);
  }

  #pool(accelerator: string): Capacity {
    const known = this.#pools.get(accelerator);
    if (known) return known;
    const pool = new Capacity(this.#totals.get(accelerator) ?? 0, wordsFor(accelerator));
    if (this.#isClosed) pool.close();
    this.#pools.set(accelerator, pool);
    return pool;
  }
}

function wordsFor(accelerator: string): CapacityWords {
  return {
    needs: (gpus) => `${gpus} × ${accelerator}`,
    state: (busy, total) =>
      total === 0 ? `no usable node has ${accelerator}` : `the cluster has ${total}, ${busy} of them busy`,
  };
}
