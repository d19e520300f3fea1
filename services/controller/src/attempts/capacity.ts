import { InvalidError } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";
import type { Gang } from "../backend/cluster-backend.ts";

/** Who asks for a slot. */
export interface Claim {
  /** Id of the run or the evaluation; ids sort by age. */
  readonly id: string;
  readonly priority: RunSpec["priority"];
  readonly queue: string;
  /** One for each rank; all of them or none. More than there are count as all. */
  readonly slots: number;
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

/**
 * Slots for workers on this computer, one for each rank: by priority, then age, all ranks of an attempt or none. Whoever is
 * first keeps its place until there is room, so that a large one is not passed for ever. Everyone who waits is told why.
 */
export class Capacity {
  readonly #slots: number;
  readonly #waiting: Waiter[] = [];
  #busy = 0;
  #isClosed = false;

  /** @throws InvalidError for less than one slot */
  constructor(slots: number) {
    if (slots < 1)
      throw new InvalidError("no_worker_slots", `a controller needs at least one worker slot, not ${slots}`);
    this.#slots = slots;
  }

  /** Takes slots for workers that run already, even when none is free. Answers the function that gives them back. */
  occupy(slots = 1): () => void {
    this.#busy += slots;
    this.#explain();
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#busy -= slots;
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
        this.#explain();
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
      this.#waiting.push(waiter);
      this.#waiting.sort(byPriorityThenAge);
      this.#admit();
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
  occupyWhile(gang: Gang): void {
    this.#releaseAtEnd(gang, this.occupy(gang.ranks));
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
    while (!this.#isClosed) {
      const next = this.#waiting[0];
      if (!next || this.#busy + this.#needed(next) > this.#slots) break;
      this.#waiting.shift();
      next.admit(this.occupy(this.#needed(next)));
    }
    this.#explain();
  }

  #needed({ claim }: Waiter): number {
    return Math.min(claim.slots, this.#slots);
  }

  #explain(): void {
    this.#waiting.forEach((waiter, index) => {
      const { claim } = waiter;
      const ahead = this.#waiting.slice(0, index).filter((other) => other.claim.queue === claim.queue).length;
      const needed = this.#needed(waiter);
      const why = `needs ${needed === 1 ? "a worker slot" : `${needed} worker slots`} on this computer; ${this.#busy} of ${this.#slots} ${this.#slots === 1 ? "slot is" : "slots are"} busy; ${ahead} ${ahead === 1 ? "run" : "runs"} ahead in queue "${claim.queue}"`;
      if (why === waiter.told) return;
      waiter.told = why;
      claim.tell(why);
    });
  }
}

function byPriorityThenAge(a: Waiter, b: Waiter): number {
  return priorityRanks[a.priority] - priorityRanks[b.priority] || (a.claim.id < b.claim.id ? -1 : 1);
}
