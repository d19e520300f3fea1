import type { ClusterNode, QueueFacts } from "../contract/cluster.ts";

/** What a run takes from the cluster: all its pods or none. */
export interface Demand {
  readonly runId: string;
  readonly queue: string;
  readonly accelerator: string;
  readonly pods: number;
  readonly gpusPerPod: number;
}

/** A run and the seconds that it runs: from now for one that runs, from its start for one that waits. `Infinity`: unknown. */
export interface TimedDemand extends Demand {
  readonly seconds: number;
}

/** When a run starts, and whose end makes the room; null when the room is there now. `Infinity`: not in sight. */
export interface SimulatedStart {
  readonly afterSeconds: number;
  readonly freedBy: string | null;
}

interface Room {
  readonly name: string;
  readonly isUsable: boolean;
  readonly total: number;
  free: number;
}

type Placement = readonly { readonly room: Room; readonly gpus: number }[];

interface Ending {
  readonly atSeconds: number;
  readonly demand: Demand;
  readonly placement: Placement;
}

/**
 * Starts the waiting runs in the order given, each as soon as all its pods have a node and its queue has the quota; nobody
 * is overtaken by a run that wants the same accelerator, except where only the other's quota is used up. Nodes are filled
 * one after the other (the fullest that still fits). Runs that cannot start before an end that is known get `Infinity`.
 */
export function simulateStarts(
  nodes: readonly ClusterNode[],
  queues: readonly QueueFacts[],
  running: readonly TimedDemand[],
  waiting: readonly TimedDemand[],
): Map<string, SimulatedStart> {
  const simulation = new Simulation(nodes, queues, running);
  return simulation.run(waiting);
}

/** True when the pods fit on the usable nodes with nothing else there. */
export function fitsOnEmptyNodes(nodes: readonly ClusterNode[], demand: Demand): boolean {
  const rooms = nodes.filter((node) => node.accelerator === demand.accelerator && node.unusable === null);
  return rooms.reduce((pods, { gpus }) => pods + Math.floor(gpus.total / demand.gpusPerPod), 0) >= demand.pods;
}

/** The most GPUs of an accelerator that a queue may ever use; `Infinity` without a limit. Quotas count GPUs alone. */
export function quotaLimit(queues: readonly QueueFacts[], queue: string, accelerator: string): number {
  const facts = queues.find(({ name }) => name === queue);
  if (facts === undefined || facts.quotas.length === 0 || accelerator === "cpu") return Infinity;
  const quota = facts.quotas.find((candidate) => candidate.accelerator === accelerator);
  if (quota === undefined) return 0;
  return quota.mayBorrow === null ? Infinity : quota.gpus + quota.mayBorrow;
}

class Simulation {
  readonly #rooms = new Map<string, Room[]>();
  readonly #queues: readonly QueueFacts[];
  readonly #used = new Map<string, number>();
  readonly #endings: Ending[] = [];

  constructor(nodes: readonly ClusterNode[], queues: readonly QueueFacts[], running: readonly TimedDemand[]) {
    this.#queues = queues;
    const unattributed = new Map<Room, number>();
    const held = new Map<string, { room: Room; gpus: number }[]>();
    for (const { name, accelerator, gpus, heldByOthers, unusable, runs } of nodes) {
      if (accelerator === null) continue;
      const room: Room = { name, isUsable: unusable === null, total: gpus.total, free: gpus.free };
      this.#rooms.set(accelerator, [...(this.#rooms.get(accelerator) ?? []), room]);
      for (const run of runs) held.set(run.runId, [...(held.get(run.runId) ?? []), { room, gpus: run.gpus }]);
      unattributed.set(room, gpus.total - gpus.free - heldByOthers - runs.reduce((sum, run) => sum + run.gpus, 0));
    }
    for (const demand of running) {
      const placement = held.get(demand.runId) ?? this.#placeRunning(demand, unattributed);
      this.#start(demand, placement, 0);
    }
  }

  run(waiting: readonly TimedDemand[]): Map<string, SimulatedStart> {
    const starts = new Map<string, SimulatedStart>();
    let left = this.#admit(waiting, 0, null, starts);
    while (left.length > 0 && this.#endings.length > 0) {
      const ending = this.#endings.shift()!;
      if (ending.atSeconds === Infinity) break;
      this.#release(ending);
      left = this.#admit(left, ending.atSeconds, ending.demand.runId, starts);
    }
    for (const { runId } of left) starts.set(runId, { afterSeconds: Infinity, freedBy: null });
    return starts;
  }

  /** Starts what can be started now; answers who still waits. */
  #admit(
    waiting: readonly TimedDemand[],
    nowSeconds: number,
    freedBy: string | null,
    starts: Map<string, SimulatedStart>,
  ): TimedDemand[] {
    const blocked = new Set<string>();
    const left: TimedDemand[] = [];
    for (const demand of waiting) {
      if (blocked.has(demand.accelerator)) {
        left.push(demand);
        continue;
      }
      const quotaKey = `${demand.queue} ${demand.accelerator}`;
      const isInQuota = !blocked.has(quotaKey) && this.#isInQuota(demand);
      const placement = isInQuota ? this.#place(demand) : null;
      if (placement === null) {
        left.push(demand);
        blocked.add(isInQuota ? demand.accelerator : quotaKey);
        continue;
      }
      starts.set(demand.runId, { afterSeconds: nowSeconds, freedBy });
      this.#start(demand, placement, nowSeconds);
    }
    return left;
  }

  #isInQuota({ queue, accelerator, pods, gpusPerPod }: Demand): boolean {
    const used = this.#used.get(`${queue} ${accelerator}`) ?? 0;
    return used + pods * gpusPerPod <= quotaLimit(this.#queues, queue, accelerator);
  }

  #place({ accelerator, pods, gpusPerPod }: Demand): Placement | null {
    const rooms = (this.#rooms.get(accelerator) ?? []).filter(({ isUsable, free }) => isUsable && free >= gpusPerPod);
    rooms.sort((a, b) => a.free - b.free);
    const placement: { room: Room; gpus: number }[] = [];
    let missing = pods;
    for (const room of rooms) {
      if (missing === 0) break;
      const here = Math.min(missing, Math.floor(room.free / gpusPerPod));
      placement.push({ room, gpus: here * gpusPerPod });
      missing -= here;
    }
    if (missing > 0) return null;
    for (const { room, gpus } of placement) room.free -= gpus;
    return placement;
  }

  /** A run whose place the cluster did not tell: on GPUs whose owner is unknown, else (it started since) on free ones. */
  #placeRunning({ accelerator, pods, gpusPerPod }: Demand, unattributed: Map<Room, number>): Placement {
    const placement: { room: Room; gpus: number }[] = [];
    let missing = pods * gpusPerPod;
    const rooms = this.#rooms.get(accelerator) ?? [];
    for (const room of rooms) {
      const gpus = Math.min(missing, Math.max(0, unattributed.get(room) ?? 0));
      if (gpus === 0) continue;
      unattributed.set(room, (unattributed.get(room) ?? 0) - gpus);
      placement.push({ room, gpus });
      missing -= gpus;
    }
    for (const room of rooms) {
      const gpus = Math.min(missing, room.free);
      if (gpus === 0) continue;
      room.free -= gpus;
      placement.push({ room, gpus });
      missing -= gpus;
    }
    return placement;
  }

  #start(demand: TimedDemand, placement: Placement, nowSeconds: number): void {
    const key = `${demand.queue} ${demand.accelerator}`;
    this.#used.set(key, (this.#used.get(key) ?? 0) + demand.pods * demand.gpusPerPod);
    const ending = { atSeconds: nowSeconds + demand.seconds, demand, placement };
    const at = this.#endings.findIndex(({ atSeconds }) => atSeconds > ending.atSeconds);
    this.#endings.splice(at === -1 ? this.#endings.length : at, 0, ending);
  }

  #release({ demand, placement }: Ending): void {
    const key = `${demand.queue} ${demand.accelerator}`;
    this.#used.set(key, (this.#used.get(key) ?? 0) - demand.pods * demand.gpusPerPod);
    for (const { room, gpus } of placement) room.free += gpus;
  }
}
