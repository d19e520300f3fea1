import type { Collective, NumberArray } from "@drydock/engine";

/** Tells when this rank waits for others, in whatever way: a rank that does not, and takes no step either, hangs. */
export class WaitTeller {
  readonly #tell: (waits: boolean) => void;
  #waiting = 0;

  constructor(tell: (waits: boolean) => void) {
    this.#tell = tell;
  }

  /** Waits for others until `operation` has ended. */
  async during<T>(operation: Promise<T>): Promise<T> {
    this.#waiting += 1;
    if (this.#waiting === 1) this.#tell(true);
    try {
      return await operation;
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#tell(false);
    }
  }
}

/** Ranks that are waited for as long as an operation takes; but not by what goes on in the background. */
export class WatchedCollective implements Collective {
  readonly background: Collective;
  readonly #teller: WaitTeller;

  constructor(inner: Collective, teller: WaitTeller) {
    this.background = inner;
    this.#teller = teller;
  }

  get rank(): number {
    return this.background.rank;
  }

  get worldSize(): number {
    return this.background.worldSize;
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#teller.during(this.background.allReduceSum(buffers));
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#teller.during(this.background.reduceScatterSum(buffers));
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    await this.#teller.during(this.background.allGather(buffers));
  }

  async broadcast(buffers: readonly NumberArray[], root: number): Promise<void> {
    await this.#teller.during(this.background.broadcast(buffers, root));
  }

  async barrier(): Promise<void> {
    await this.#teller.during(this.background.barrier());
  }

  async close(failure?: string): Promise<void> {
    await this.background.close(failure);
  }
}
