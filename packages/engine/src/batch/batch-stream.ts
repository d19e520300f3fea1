import type { DataCursor } from "@drydock/spec";
import type { RowOrder } from "./row-order.ts";

interface Pending<Batch> {
  readonly batch: Promise<Batch>;
  /** Where reading goes on after this batch. */
  readonly after: DataCursor;
}

/**
 * Batches in the order of a {@link RowOrder}, loaded ahead of their use: while one is trained on, the next are decoded.
 * The cursor counts batches that were handed out, not those loaded ahead, so that a stop loses none and repeats none.
 */
export class BatchStream<Batch> implements AsyncIterable<Batch> {
  readonly #order: RowOrder;
  readonly #rowsPerBatch: number;
  readonly #ahead: number;
  readonly #load: (rows: readonly number[]) => Promise<Batch>;
  #pending: Pending<Batch>[] = [];
  #cursor: DataCursor;

  /**
   * @param load   makes a batch of these rows; called early, several at once, in order
   * @param ahead  batches loaded before they are asked for
   */
  constructor(
    order: RowOrder,
    load: (rows: readonly number[]) => Promise<Batch>,
    options: { readonly rowsPerBatch: number; readonly ahead: number },
  ) {
    this.#order = order;
    this.#load = load;
    this.#rowsPerBatch = options.rowsPerBatch;
    this.#ahead = options.ahead;
    this.#cursor = order.state();
  }

  /** The next batch. Fails with what its load failed with; the cursor then still stands before it. */
  async next(): Promise<Batch> {
    while (this.#pending.length <= this.#ahead) this.#pending.push(this.#start());
    const { batch, after } = this.#pending.shift() as Pending<Batch>;
    const loaded = await batch;
    this.#cursor = after;
    return loaded;
  }

  /** Endless: the order starts a new epoch when one is over. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, never> {
    while (true) yield await this.next();
  }

  /** Where to go on after the last batch handed out. */
  state(): DataCursor {
    return this.#cursor;
  }

  /** Drops what was loaded ahead and goes on at the cursor. */
  restore(cursor: DataCursor): void {
    this.#pending = [];
    this.#order.restore(cursor);
    this.#cursor = this.#order.state();
  }

  #start(): Pending<Batch> {
    const batch = this.#load(this.#order.next(this.#rowsPerBatch));
    // A load may fail before anyone waits for it; whoever takes the batch gets the failure.
    batch.catch(() => undefined);
    return { batch, after: this.#order.state() };
  }
}
