import { RowOrder } from "@drydock/engine";
import type { DataCursor, DataRecord } from "@drydock/spec";
import { BadDataError } from "../failure.ts";
import type { RowSource } from "../training/trainer.ts";

/** The training split in its order, a global batch at a time. */
export class RecordRows implements RowSource {
  readonly #records: readonly DataRecord[];
  readonly #order: RowOrder;
  readonly #globalBatchSize: number;

  constructor(
    records: readonly DataRecord[],
    settings: { readonly order: DataCursor["order"]; readonly seed: number; readonly globalBatchSize: number },
  ) {
    this.#records = records;
    this.#order = new RowOrder(records.length, settings.order, settings.seed);
    this.#globalBatchSize = settings.globalBatchSize;
  }

  get rowsPerEpoch(): number {
    return this.#records.length;
  }

  async next(): Promise<readonly DataRecord[]> {
    return this.#order.next(this.#globalBatchSize).map((index) => this.#records[index] as DataRecord);
  }

  state(): DataCursor {
    return this.#order.state();
  }

  /** @throws BadDataError when the cursor was made for other rows or another order */
  restore(cursor: DataCursor): void {
    const own = this.state();
    if (cursor.rows !== own.rows)
      throw new BadDataError(
        `the checkpoint was made with ${cursor.rows} rows to train on, the data has ${own.rows}: resume with the same data`,
      );
    if (cursor.order !== own.order || cursor.seed !== own.seed) {
      throw new BadDataError(
        `the checkpoint reads rows ${cursor.order} with seed ${cursor.seed}, the run spec says ${own.order} with seed ${own.seed}: resume with the same spec`,
      );
    }
    this.#order.restore(cursor);
  }
}
