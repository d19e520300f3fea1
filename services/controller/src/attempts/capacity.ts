/** Someone who waits for a slot. */
interface Waiter {
  readonly rank: number;
  readonly sequence: number;
  readonly admit: () => void;
  readonly tell: (why: string) => void;
}

const priorityRanks = { high: 0, normal: 1, low: 2 } as const;

/** Slots for workers on this computer: by priority, then age. Everyone who waits is told why. */
export class Capacity {
  readonly #slots: number;
  readonly #waiting: Waiter[] = [];
  #busy = 0;
  #sequence = 0;

  constructor(slots: number) {
    this.#slots = slots;
  }

  /**
   * Waits for a slot; answers the function that gives it back.
   *
   * @param tell  called with a sentence whenever the reason to wait changes
   * @throws the reason of `signal` when it is aborted while waiting
   */
  async acquire(priority: keyof typeof priorityRanks, queue: string, tell: (why: string) => void, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#busy < this.#slots && this.#waiting.length === 0) return this.#take();
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        rank: priorityRanks[priority],
        sequence: this.#sequence++,
        admit: () => {
          signal.removeEventListener("abort", leave);
          resolve();
        },
        tell,
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal.reason instanceof Error ? signal.reason : new Error("stopped while waiting for capacity"));
        this.#explain(queue);
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.push(waiter);
      this.#waiting.sort((a, b) => a.rank - b.rank || a.sequence - b.sequence);
      this.#explain(queue);
    });
    return this.#take();
  }

  #take(): () => void {
    this.#busy += 1;
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#busy -= 1;
      const next = this.#waiting.shift();
      next?.admit();
    };
  }

  #explain(queue: string): void {
    this.#waiting.forEach(({ tell }, ahead) => tell(`needs a worker slot; ${this.#busy} of ${this.#slots} are busy; ${ahead} ${ahead === 1 ? "run" : "runs"} ahead in queue "${queue}"`));
  }
}
