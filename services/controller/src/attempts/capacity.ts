import { InvalidError } from "@drydock/kit";
import type { RunSpec } from "@drydock/spec";
import type { Gang } from "../backend/cluster-backend.ts";

/** Who asks for a slot. */
export interface Claim {
  /** Id of the run or the evaluation; ids sort by age. */
  readonly id: string;
  readonly priority: RunSpec["priority"];
  readonly queue: string;
  /** Called with a sentence whenever the reason to wait changes. */
  readonly tell: (why: string) => void;
}

interface Waiter {
  readonly claim: Claim;
  readonly admit: (release: () => void) => void;
  told: string;
}

const priorityRanks = { high: 0, normal: 1, low: 2 } as const;

/** Slots for workers on this computer: by priority, then age. Everyone who waits is told why. */
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

  /** Takes a slot for a worker that runs already, even when none is free. Answers the function that gives it back. */
  occupy(): () => void {
    this.#busy += 1;
    this.#explain();
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#busy -= 1;
      this.#admit();
    };
  }

  /**
   * Waits for a slot; answers the function that gives it back.
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
   * Starts a worker in a slot: it keeps the slot for as long as its process lives, whoever watches it. What is started
   * no worker (a sentence that says why not, or an error) gives the slot back at once.
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

  /** Takes a slot for a worker that runs already, even when none is free, for as long as it lives. */
  occupyWhile(gang: Gang): void {
    this.#releaseAtEnd(gang, this.occupy());
  }

  #releaseAtEnd({ ended }: Gang, release: () => void): void {
    void ended.then(release, release);
  }

  /** From now on nobody gets a slot: the controller is closing. */
  close(): void {
    this.#isClosed = true;
  }

  #admit(): void {
    while (!this.#isClosed && this.#busy < this.#slots) {
      const next = this.#waiting.shift();
      if (!next) break;
      next.admit(this.occupy());
    }
    this.#explain();
  }

  #explain(): void {
    this.#waiting.forEach((waiter, index) => {
      const { claim } = waiter;
      const ahead = this.#waiting.slice(0, index).filter((other) => other.claim.queue === claim.queue).length;
      const why = `needs a worker slot on this computer; ${this.#busy} of ${this.#slots} ${this.#slots === 1 ? "slot is" : "slots are"} busy; ${ahead} ${ahead === 1 ? "run" : "runs"} ahead in queue "${claim.queue}"`;
      if (why === waiter.told) return;
      waiter.told = why;
      claim.tell(why);
    });
  }
}

function byPriorityThenAge(a: Waiter, b: Waiter): number {
  return priorityRanks[a.claim.priority] - priorityRanks[b.claim.priority] || (a.claim.id < b.claim.id ? -1 : 1);
}
