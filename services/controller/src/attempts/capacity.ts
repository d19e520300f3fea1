import { InvalidError } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";
import type { Gang } from "../backend/cluster-backend.ts";

/** Who asks for a slot. */
export interface Claim {
  /** Id of the run or the evaluation; ids sort by age. */
  readonly id: string;
  readonly priority: RunSpec["priority"];
  readonly queue: string;
  /** One for each rank; all of them or none. */
  readonly slots: number;
  /** Accelerator that every rank needs, and how many of it all ranks together; null and 0 without GPUs. */
  readonly accelerator: string | null;
  readonly gpus: number;
  /** Called with a sentence whenever the reason to wait changes. */
  readonly tell: (why: string) => void;
}

interface Waiter {
  readonly claim: Claim;
  /** The claim's at first; may be changed while it waits. */
  priority: Claim["priority"];
  readonly admit: (release: () => void) => void;
  told: string;
}

const priorityRanks = { high: 0, normal: 1, low: 2 } as const;

/** Who may start when. Every admission tells those who wait why. */
export type Admission = Pick<Capacity, "acquire" | "holdFor" | "occupyWhile" | "prioritise" | "close">;

/** What slots are called in the sentences for those who wait. */
export interface CapacityWords {
  /** `needs …`. */
  needs(slots: number): string;
  /** `2 of 2 slots are busy`. */
  state(busy: number, slots: number): string;
}

/** Slots that each queue may take of these; `Infinity`: as many as there are. */
export type QueueLimit = (queue: string) => number;

const workerSlots: CapacityWords = {
  needs: (slots) => `${slots === 1 ? "a worker slot" : `${slots} worker slots`} on this computer`,
  state: (busy, slots) => `${busy} of ${slots} ${slots === 1 ? "slot is" : "slots are"} busy`,
};

/**
 * Slots for workers on this computer, one for each rank: by priority, then age, all ranks of an attempt or none. Whoever is
 * first keeps its place until there is room, so that a large one is not passed for ever; who waits for its queue's quota
 * alone holds up that queue and no other. Everyone who waits is told why.
 */
export class Capacity {
  #slots: number;
  readonly #words: CapacityWords;
  readonly #limitOf: QueueLimit;
  readonly #usedBy = new Map<string, number>();
  readonly #waiting: Waiter[] = [];
  #busy = 0;
  #isClosed = false;

  /**
   * @param words  null: slots are those of this computer; a claim for more than there are counts as one for all
   * @throws InvalidError for less than one slot on this computer
   */
  constructor(slots: number, words: CapacityWords | null = null, limitOf: QueueLimit = () => Infinity) {
    if (slots < 1 && words === null)
      throw new InvalidError("no_worker_slots", `a controller needs at least one worker slot, not ${slots}`);
    this.#slots = slots;
    this.#words = words ?? workerSlots;
    this.#limitOf = limitOf;
  }

  /** There are more slots or fewer from now on; what runs goes on. */
  resize(slots: number): void {
    if (slots === this.#slots) return;
    this.#slots = slots;
    this.#admit();
  }

  /** Takes slots for workers that run already, even when none is free. Answers the function that gives them back. */
  occupy(slots = 1, queue = ""): () => void {
    const release = this.#take(slots, queue);
    this.#explain();
    return release;
  }

  /** Slots that the runs of a queue hold. */
  usedBy(queue: string): number {
    return this.#usedBy.get(queue) ?? 0;
  }

  #take(slots: number, queue: string): () => void {
    const count = (change: number): void => {
      this.#busy += change;
      this.#usedBy.set(queue, this.usedBy(queue) + change);
    };
    count(slots);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      count(-slots);
      this.#admit();
    };
  }

  /**
   * Waits for the slots of a claim; answers the function that gives them back.
   *
   * @throws the reason of `signal` when it is aborted while waiting
   */
  async acquire(claim: Claim, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    return await new Promise<() => void>((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal.reason instanceof Error ? signal.reason : new Error("stopped while waiting for a slot"));
        this.#admit();
      };
      const waiter: Waiter = {
        claim,
        priority: claim.priority,
        told: "",
        admit: (release) => {
          signal.removeEventListener("abort", leave);
          resolve(release);
        },
      };
      signal.addEventListener("abort", leave, { once: true });
      // Mostly the newest of many thousand: it goes to its place without all of them being sorted.
      const before = this.#waiting.findLastIndex((other) => byPriorityThenAge(other, waiter) < 0);
      this.#waiting.splice(before + 1, 0, waiter);
      if (this.#next() !== null) this.#admit();
      else this.#explain(before + 1);
    });
  }

  /**
   * Starts workers in slots: they keep them for as long as their processes live, whoever watches them. What is started
   * no worker (a sentence that says why not, or an error) gives the slots back at once.
   */
  async holdFor<Started extends { readonly gang: Gang } | string>(
    release: () => void,
    start: () => Promise<Started>,
  ): Promise<Started> {
    try {
      const started = await start();
      if (typeof started === "string") release();
      else this.#releaseAtEnd(started.gang, release);
      return started;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Takes slots for ranks that run already, even when none is free, for as long as they live. */
  occupyWhile(gang: Gang, slots: number = gang.ranks): void {
    this.#releaseAtEnd(gang, this.occupy(slots, gang.placement?.queue));
  }

  #releaseAtEnd({ ended }: Gang, release: () => void): void {
    void ended.then(release, release);
  }

  /** Gives whoever waits under this id another priority; others are told their new places. */
  prioritise(id: string, priority: Claim["priority"]): void {
    const changed = this.#waiting.filter((waiter) => waiter.claim.id === id && waiter.priority !== priority);
    if (changed.length === 0) return;
    for (const waiter of changed) waiter.priority = priority;
    this.#waiting.sort(byPriorityThenAge);
    this.#admit();
  }

  /** Slots and how many of them are taken; more than all when workers of an earlier controller still run. */
  occupancy(): { readonly slots: number; readonly busy: number; readonly isClosed: boolean } {
    return { slots: this.#slots, busy: this.#busy, isClosed: this.#isClosed };
  }

  /** From now on nobody gets a slot: the controller is closing. */
  close(): void {
    this.#isClosed = true;
  }

  #admit(): void {
    for (let next = this.#next(); next !== null; next = this.#next()) {
      const [waiter] = this.#waiting.splice(next, 1);
      if (waiter) waiter.admit(this.#take(this.#needed(waiter), waiter.claim.queue));
    }
    this.#explain();
  }

  /** The place in the line of the next one that may start now; null when nobody may. */
  #next(): number | null {
    if (this.#isClosed) return null;
    const full = new Set<string>();
    for (const [index, waiter] of this.#waiting.entries()) {
      const { queue } = waiter.claim;
      const needed = this.#needed(waiter);
      const limit = this.#limitOf(queue);
      if (full.has(queue) || needed > limit) continue;
      if (this.usedBy(queue) + needed > limit) full.add(queue);
      else return this.#busy + needed <= this.#slots ? index : null;
    }
    return null;
  }

  #needed({ claim }: Waiter): number {
    return this.#words === workerSlots ? Math.min(claim.slots, this.#slots) : claim.slots;
  }

  /** Tells those who wait, from a place in the line on, what has changed for them. */
  #explain(from = 0): void {
    const state = this.#words.state(this.#busy, this.#slots);
    const aheadIn = new Map<string, number>();
    for (const [index, waiter] of this.#waiting.entries()) {
      const { claim } = waiter;
      const ahead = aheadIn.get(claim.queue) ?? 0;
      aheadIn.set(claim.queue, ahead + 1);
      if (index < from) continue;
      const why = `needs ${this.#words.needs(this.#needed(waiter))}; ${state}${this.#quotaOf(waiter)}; ${ahead} ${ahead === 1 ? "run" : "runs"} ahead in queue "${claim.queue}"`;
      if (why === waiter.told) continue;
      waiter.told = why;
      claim.tell(why);
    }
  }

  /** What the quota of its queue does to one that waits; empty when that is not what it waits for. */
  #quotaOf(waiter: Waiter): string {
    const { queue } = waiter.claim;
    const needed = this.#needed(waiter);
    const limit = this.#limitOf(queue);
    if (needed > limit)
      return `; it can never start: queue "${queue}" may use ${this.#words.needs(limit)} at most: raise its quota or resize the run`;
    const used = this.usedBy(queue);
    return used + needed > limit ? `; queue "${queue}" uses ${used} of its quota of ${limit}` : "";
  }
}

function byPriorityThenAge(a: Waiter, b: Waiter): number {
  return priorityRanks[a.priority] - priorityRanks[b.priority] || (a.claim.id < b.claim.id ? -1 : 1);
}
