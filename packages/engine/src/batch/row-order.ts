import type { DataCursor } from "@drydock/spec";
import { SeededRandom } from "../training/random.ts";

/** The order in which rows are read: a seeded permutation for each epoch, or file order. Same cursor, same rows. */
export class RowOrder {
  readonly #rows: number;
  readonly #order: DataCursor["order"];
  readonly #seed: number;
  #epoch = 0;
  #index = 0;
  #permutation: readonly number[];

  constructor(rows: number, order: DataCursor["order"], seed: number) {
    this.#rows = rows;
    this.#order = order;
    this.#seed = seed;
    this.#permutation = this.#permute(0);
  }

  /** Indices of the next `count` rows. A batch may reach into the next epoch, so that every batch is full. */
  next(count: number): number[] {
    const batch: number[] = [];
    while (batch.length < count) {
      if (this.#index === this.#rows) {
        this.#epoch += 1;
        this.#index = 0;
        this.#permutation = this.#permute(this.#epoch);
      }
      batch.push(this.#permutation[this.#index++] as number);
    }
    return batch;
  }

  state(): DataCursor {
    return { epoch: this.#epoch, index: this.#index, order: this.#order, seed: this.#seed, rows: this.#rows };
  }

  restore(cursor: DataCursor): void {
    this.#epoch = cursor.epoch;
    this.#index = cursor.index;
    this.#permutation = this.#permute(cursor.epoch);
  }

  #permute(epoch: number): number[] {
    const rows = Array.from({ length: this.#rows }, (_, row) => row);
    if (this.#order === "sequential") return rows;
    const random = new SeededRandom(this.#seed, "order", epoch);
    for (let last = rows.length - 1; last > 0; last--) {
      const other = Math.floor(random.uniform() * (last + 1));
      [rows[last], rows[other]] = [rows[other] as number, rows[last] as number];
    }
    return rows;
  }
}
