import type { Collective, NumberArray } from "@drydock/engine";

/** Tells when this rank waits for the others: a rank that does not, and takes no step either, is the one that hangs. */
export class WatchedCollective implements Collective {
  readonly #inner: Collective;
  readonly #tell: (waits: boolean) => void;
  #waiting = 0;

  constructor(inner: Collective, tell: (waits: boolean) => void) {
    this.#inner = inner;
    this.#tell = tell;
  }

  get rank(): number {
    return this.#inner.rank;
  }

  get worldSize(): number {
    return this.#inner.worldSize;
  }

  async allReduceSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#watch(this.#inner.allReduceSum(buffers));
  }

  async reduceScatterSum(buffers: readonly NumberArray[]): Promise<void> {
    await this.#watch(this.#inner.reduceScatterSum(buffers));
  }

  async allGather(buffers: readonly NumberArray[]): Promise<void> {
    await this.#watch(this.#inner.allGather(buffers));
  }

  async broadcast(buffers: readonly NumberArray[], root: number): Promise<void> {
    await this.#watch(this.#inner.broadcast(buffers, root));
  }

  async barrier(): Promise<void> {
    await this.#watch(this.#inner.barrier());
  }

  async close(failure?: string): Promise<void> {
    await this.#inner.close(failure);
  }

  async #watch(operation: Promise<void>): Promise<void> {
    this.#waiting += 1;
    if (this.#waiting === 1) this.#tell(true);
    try {
      await operation;
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0) this.#tell(false);
    }
  }
}
